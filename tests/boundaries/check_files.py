"""No file and no class of tests is forgotten, listed twice, unused, too long or too short, or lies where none belongs."""
import ast
import glob
import os
import re
import subprocess

from sources import PRODUCT, finish, includes_of, list_sources, read, root_from_arguments

TOP_LEVEL = {"CMakeLists.txt", "CMakePresets.json", "LICENSE", "README.md", "experiments", "framework", "launch", "models", "results", "tests"}
MAX_LINES = 320
MIN_LINES = 15  # of a source; an interface may be short, and what stands in for the GPU parts of a folder in a build without CUDA
COMMAND = re.compile(r"(\w+)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)")


def commands_of(root, path):
    """(name, words) of the commands of a CMake file."""
    text = re.sub(r"#[^\n]*", "", read(root, path))
    return [(match.group(1).lower(), match.group(2).split()) for match in COMMAND.finditer(text)]


def cmake_files(root):
    found = [path for path in list_sources(root, PRODUCT + ("tests",), ("CMakeLists.txt", ".cmake"))]
    return found + (["CMakeLists.txt"] if os.path.exists(os.path.join(root, "CMakeLists.txt")) else [])


def listed_sources(root):
    """source -> the CMake files that compile it, once for each time that they name it."""
    listed = {}
    for path in cmake_files(root):
        for name, words in commands_of(root, path):
            if name == "file" and words[:1] == ["GLOB"]:
                for word in words[2:]:
                    if word.endswith((".cpp", ".cu")) and not word.startswith("$"):
                        for source in glob.glob(os.path.join(root, os.path.dirname(path), word)):
                            listed.setdefault(os.path.relpath(source, root), []).append(path)
            if name in ("target_sources", "add_library", "add_executable") or name.startswith("add_") and name.endswith("_test"):
                for word in words:
                    if word.endswith((".cpp", ".cu")) and not word.startswith("$"):
                        source = os.path.normpath(os.path.join(os.path.dirname(path), word))
                        listed.setdefault(source, []).append(path)
    return listed


def check_lists(root):
    listed = listed_sources(root)
    sources = list_sources(root, PRODUCT + ("tests",), (".cpp", ".cu"))
    for pattern in [name for name in listed if "${" in name]:  # of a loop
        places = listed.pop(pattern)
        matches = re.compile(re.sub(r"\\\$\\\{\w+\\\}", r"\\w+", re.escape(pattern))).fullmatch
        listed.update({source: places for source in sources if matches(source) and source not in listed})
    findings = []
    for source in sources:
        places = listed.pop(source, [])
        if not places:
            findings.append(f"{source}:1: no CMakeLists.txt compiles it")
        elif len(places) > 1 and source.startswith(PRODUCT):
            findings.append(f"{source}:1: compiled {len(places)} times, by {', '.join(places)}")
    return findings + [f"{places[0]}: names {source}, which is not there" for source, places in sorted(listed.items())]


def check_test_scripts(root):
    """A CMakeLists.txt of its folder runs each script of tests, as a whole or all of its classes."""
    findings = []
    for script in list_sources(root, ("tests",), ("_test.py",)):
        folder, name = os.path.split(script)
        lists = os.path.join(folder, "CMakeLists.txt")
        commands = [words for _, words in commands_of(root, lists)] if os.path.exists(os.path.join(root, lists)) else []
        words = {word for command in commands for word in command if {name, os.path.splitext(name)[0]} & {os.path.basename(each) for each in command}}
        if not words:
            findings.append(f"{script}:1: no CMakeLists.txt beside it runs it")
        classes = [node for node in ast.parse(read(root, script)).body if isinstance(node, ast.ClassDef)]
        tested = [node for node in classes if any(isinstance(item, ast.FunctionDef) and item.name.startswith("test") for item in node.body)]
        if words & {node.name for node in classes}:
            findings += [f"{script}:{node.lineno}: {lists} does not run {node.name}" for node in tested if node.name not in words]
    return findings


def check_headers_used(root):
    """A header that only its own source includes is not used; a .cuh may be a part of one kernel."""
    sources = list_sources(root, PRODUCT + ("tests",))
    included = {header for path in sources for _, header in includes_of(root, path) if os.path.splitext(path)[0] != os.path.splitext(header)[0]}
    return [f"{path}:1: no other file includes it" for path in sources if path.endswith(".hpp") and path not in included]


def check_libraries_used(root):
    commands = [(path, name, words) for path in cmake_files(root) for name, words in commands_of(root, path)]
    used = {word for _, name, words in commands for word in words[1:] if name != "add_library"}
    return [f"{path}: nothing uses the library {words[0]}" for path, name, words in commands
            if name == "add_library" and not {"ALIAS", "IMPORTED", "OBJECT"} & set(words) and words[0] not in used]


def check_lengths(root):
    findings = []
    for path in list_sources(root, PRODUCT):
        lines = read(root, path).count("\n")
        if lines > MAX_LINES:
            findings.append(f"{path}:{lines}: {lines} lines; at most {MAX_LINES}")
        is_source = path.endswith((".cpp", ".cu")) and not path.endswith("/without_cuda.cpp")
        if lines < MIN_LINES and is_source:
            findings.append(f"{path}:{lines}: {lines} lines; a source has at least {MIN_LINES}")
    return findings


def check_top_level(root):
    """What the next commit has beside the fixed folders and files, or without git what is there, but for builds; names with a dot in front may
    stand there. Files that git does not track are somebody's own."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "--cached"], capture_output=True, check=False)
    names = {path.split("/")[0] for path in listed.stdout.decode().split("\0") if path}
    if listed.returncode != 0:
        names = {name for name in os.listdir(root) if not name.startswith("build")}
    return [f"{name}: does not belong into the top folder" for name in sorted(names - TOP_LEVEL) if not name.startswith(".")]


def check(root):
    return check_top_level(root) + check_lists(root) + check_test_scripts(root) + check_headers_used(root) + check_libraries_used(root) + check_lengths(root)


if __name__ == "__main__":
    finish(check(root_from_arguments()))
