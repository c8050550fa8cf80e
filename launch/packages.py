"""What the tools of this folder do where Python lacks a module: start again with the system's Python, which sees the packages of Debian, or say
what to install."""
import importlib
import os
import sys

SYSTEM_PYTHON = "/usr/bin/python3"


def missing_modules(names):
    missing = []
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def missing_message(program, missing):
    """Which modules this Python lacks, and how to get them."""
    if sys.executable == SYSTEM_PYTHON:
        remedy = "apt-get install " + " ".join(f"python3-{name}" for name in missing) + f" (Debian), or start {program}.py with a Python that has them"
    else:
        remedy = f"{sys.executable} -m pip install " + " ".join(missing)
    return f"{program}: {sys.executable} has no {', no '.join(missing)}; to go on: {remedy}"


def need_modules(program, names):
    """Returns where all modules are there. Else the program starts again with the system's Python, or ends with exit code 2 and a message."""
    missing = missing_modules(names)
    if not missing:
        return
    if sys.executable != SYSTEM_PYTHON and os.access(SYSTEM_PYTHON, os.X_OK):
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])
    print(missing_message(program, missing), file=sys.stderr)
    sys.exit(2)
