#!/usr/bin/env python3
"""What a document says of the project's files is so: links, anchors, file names and names of tests. Its lines are short enough to read,
and each of its code blocks is of a kind that run_documents.py runs.

check_documents.py [ROOT]   prints what it finds; exit code 1 if there is anything.
"""
import re
import sys
from pathlib import Path

from markdown import Document, commands_of, list_documents, read_table

MAX_COLUMNS = 120
LANGUAGES = ("sh", "yaml", "python", "output", "text")
TOPS = ("experiments", "framework", "launch", "models", "tests", ".ci")
ENDINGS = ("cpp", "hpp", "cu", "cuh", "py", "sh", "txt", "yaml", "json", "md", "svg", "cmake", "jsonl")
# Files that runs write, and that belong to others.
MADE = ("summary.json", "failure.json", "trace.json", "sweep.json", "sweep.csv", "experiment.yaml", "config.json", "model.safetensors")
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]+")


def check_links(root, document):
    findings = []
    for number, target in document.links():
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (root / document.path).parent / name if name else root / document.path
        if not path.exists():
            findings.append(f"{document.path}:{number}: link to {target}: there is no such file")
        elif anchor and anchor not in Document(root, path.resolve().relative_to(root.resolve())).anchors():
            findings.append(f"{document.path}:{number}: link to {target}: there is no such heading")
    return findings


def names_of(code):
    """The words of inline code that look like files of the project."""
    for word in code.split():
        word = word.split("=", 1)[-1].rstrip(".,:;")
        if re.fullmatch(r"[\w.\-/*]+", word) and "*" not in word:
            if word.split("/")[0] in TOPS and "/" in word or re.fullmatch(rf"[\w\-]+\.({'|'.join(ENDINGS)})", word):
                yield word


def is_there(root, word):
    pattern = PLACEHOLDER.sub("*", word)
    if "/" in word:
        return any(root.glob(pattern.rstrip("/")))
    tops = [root / top for top in TOPS]
    return word in MADE or any(root.glob(pattern)) or any(next(top.rglob(pattern), None) for top in tops)


def made_by_blocks(document):
    """File names that the document's own blocks write."""
    made = {block.options["file"] for block in document.blocks if "file" in block.options}
    for block in document.blocks:
        if block.language == "sh":
            made |= set(re.findall(r"> ?([\w./\-]+)", block.text)) | set(re.findall(r"\bcp \S+ ([\w./\-]+)", block.text))
    return made


def check_names(root, document):
    findings = []
    tests = " ".join(path.read_text(encoding="utf-8") for path in (root / "tests").rglob("CMakeLists.txt"))
    made = made_by_blocks(document)
    made |= {Path(name).name for name in made}
    for number, code in document.inline_code():
        for word in names_of(code):
            if word not in made and not is_there(root, word):
                findings.append(f"{document.path}:{number}: {word}: there is no such file")
        for test in re.findall(r"\bbin/test_(\w+)", code):
            if not re.search(rf"add_(host|mpi|gpu)_test\(\s*{test}\b", tests):
                findings.append(f"{document.path}:{number}: test_{test}: there is no such test")
    return findings


def check_lines(root, document):
    findings = []
    for number, line in document.prose:
        if len(line) > MAX_COLUMNS and not line.lstrip().startswith(("|", "<!--", "![")):
            findings.append(f"{document.path}:{number}: {len(line)} columns; at most {MAX_COLUMNS} outside of tables and code")
    return findings


def check_blocks(root, document):
    findings = []
    if document.is_open:
        findings.append(f"{document.path}: the last code block has no end")
    is_list = False
    for number, line in document.prose:
        is_list = bool(re.match(r"\s*([-*]|\d+\.) ", line)) or is_list and line.startswith(" ")
        if re.match(r"    \S", line) and not is_list:
            findings.append(f"{document.path}:{number}: an indented code block; code is fenced, so that it can be run")
    before = None
    for block in document.blocks:
        if block.language not in LANGUAGES:
            findings.append(f"{document.path}:{block.line - 1}: a code block of the kind '{block.language}'; known: {', '.join(LANGUAGES)}")
        if block.language == "output" and (before is None or before.language not in ("sh", "python", "output")):
            findings.append(f"{document.path}:{block.line - 1}: an output that no block before it prints")
        if block.language == "text" and any(re.match(r"(\$|\+|mpirun|dovetail|launch/) ?", line) for line in block.lines):
            findings.append(f"{document.path}:{block.line - 1}: a command in a block of text, which nobody runs")
        before = block
    return findings


def check_not_run(root, documents):
    """Each exception of not_run.txt is a command of a document, and says why it is not run."""
    table = root / "tests" / "docs" / "not_run.txt"
    commands = {command for document in documents for block in document.blocks if block.language == "sh" for command in commands_of(block)}
    findings = []
    for command, why in read_table(table).items() if table.exists() else ():
        if command not in commands:
            findings.append(f"tests/docs/not_run.txt: '{command}' is a command of no document")
        elif not why:
            findings.append(f"tests/docs/not_run.txt: '{command}' has no reason")
    return findings


def check(root):
    root = Path(root)
    documents = [Document(root, path) for path in list_documents(root)]
    findings = [finding for document in documents for rule in (check_blocks, check_links, check_names, check_lines)
                for finding in rule(root, document)]
    return findings + check_not_run(root, documents)


if __name__ == "__main__":
    found = check(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[2])
    print("\n".join(found), end="\n" if found else "")
    sys.exit(1 if found else 0)
