"""What the checks of this folder share: the project's sources and how they are read."""
import os
import re
import sys

PRODUCT = ("framework", "models", "launch")
ENDINGS = (".hpp", ".cpp", ".cu", ".cuh")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def list_sources(root, tops, endings=ENDINGS):
    """Paths from the root, sorted, of all files with these endings below the given folders."""
    found = []
    for top in tops:
        for folder, _, names in os.walk(os.path.join(root, top)):
            found += [os.path.relpath(os.path.join(folder, name), root) for name in names if name.endswith(endings)]
    return sorted(found)


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def includes_of(root, path):
    """(line, what) of each include; what is as written, without < > or quotes."""
    text = read(root, path)
    return [(text.count("\n", 0, match.start()) + 1, match.group(2)) for match in INCLUDE.finditer(text)]


def finish(findings):
    """Prints what was found and ends the process: 1 if there is anything."""
    for finding in findings:
        print(finding)
    sys.exit(1 if findings else 0)


def root_from_arguments():
    """The folder to look at: the first argument, or the project that this file is in."""
    return sys.argv[1] if len(sys.argv) > 1 else os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
