#!/usr/bin/env python3
"""Does what a document tells its readers to do, and compares what they are shown with what they would see.

run_documents.py DOCUMENT...   runs each document from its first block to its last, in a copy of the project of its own

Environment: DOVETAIL_BIN, the executable. With DOVETAIL_UPDATE_README=1 outputs and pictures are written into the documents.

What is done with a block of code follows from its first line:
  ```sh                      its commands run, but for those in not_run.txt; `exit=N`: the last one ends with this exit code
  ```output                  what the block before it printed, numbers aside; `head=N`, `tail=N`: only so many of its lines;
                             `from=WORDS`: from the first line that contains these words on
  ```python                  runs; with `file=NAME` it is written there, for a later command
  ```yaml file=NAME          is written there, for a later command
  ```yaml key=KEY in=FILE    is a value of this key: `dovetail check FILE` with it; a list of policies gets its baseline in front;
                             with `each`, every line `NAME: VALUE` is one
  ```yaml add in=FILE        `dovetail check` of FILE with these lines at its end
  ```text                    nothing
A line <!-- picture: MADE -> SHOWN --> names a text, as SVG or HTML, that the document's commands have made, and where a copy is kept.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from markdown import Document, commands_of, read_table

TOP = Path(__file__).resolve().parents[2]
LIMIT_S = 240
COPIED = ("experiments",)  # commands may write there; other folders are linked
PICTURE = re.compile(r"<!-- picture: (\S+) -> (\S+) -->")


class Finding(Exception):
    """What is wrong with a block."""


class Session:
    """A copy of the project in which a document's commands run one after another."""

    def __init__(self, root, folder, dovetail, not_run):
        self.root, self.folder, self.not_run = root, Path(folder), not_run
        for entry in root.iterdir():
            if entry.name in COPIED:
                shutil.copytree(entry, self.folder / entry.name)
            elif entry.name not in ("results", "build") and not entry.name.startswith("."):
                (self.folder / entry.name).symlink_to(entry)
        (self.folder / "results").mkdir()
        tools = self.folder / "tools"
        tools.mkdir()
        (tools / "dovetail").symlink_to(dovetail)
        (tools / "python3").symlink_to(sys.executable)
        self.dovetail = dovetail
        self.environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "DOVETAIL_BIN": dovetail, "PYTHONDONTWRITEBYTECODE": "1"}

    def execute(self, command, expected=0):
        """Runs it and returns what it printed, both streams in their order."""
        try:
            process = subprocess.run(command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     text=True, errors="replace", timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise Finding(f"is not done after {LIMIT_S} s") from error
        if process.returncode != expected:
            raise Finding(f"exit code {process.returncode}, not {expected}:\n{process.stdout}")
        return self.without_places(process.stdout)

    def without_places(self, text):
        """A text that names no folder of this machine."""
        return text.replace(f"{self.folder}/", "").replace(self.dovetail, "build/bin/dovetail")

    def run_sh(self, block):
        commands = commands_of(block)
        left_out = [command for command in commands if command in self.not_run]
        if len(left_out) == len(commands):
            return None
        if left_out:
            text = "\n".join(command for command in commands if command not in left_out)
        else:
            text = block.text
        return self.execute(["bash", "-euo", "pipefail", "-c", text], int(block.options.get("exit", 0)))

    def check_yaml(self, block):
        if "file" in block.options:
            (self.folder / block.options["file"]).write_text(block.text)
            return
        if "in" not in block.options:
            raise Finding("a block of yaml needs `file=` or `in=`")
        base = block.options["in"]
        if "add" in block.flags:
            path = self.folder / "added.yaml"
            path.write_text((self.folder / base).read_text() + block.text)
            self.check_experiment(str(path))
            return
        key = block.options["key"]
        values = [block.text]
        if "each" in block.flags:
            values = [re.sub(r"\s+#.*", "", line).split(":", 1)[1].strip() for line in block.lines if line.strip()]
        for value in values:
            if key == "policies":
                value = "- {name: sequential}\n" + value
            self.check_experiment(base, "--set", f"{key}={value}")

    def check_experiment(self, path, *arguments):
        self.execute([self.dovetail, "check", path, "--ranks", "2", *arguments])

    def run_python(self, block):
        if "file" in block.options:
            (self.folder / block.options["file"]).write_text(block.text)
            return None
        return self.execute([sys.executable, "-c", block.text])


def shown_part(printed, options):
    lines = [line.rstrip() for line in printed.splitlines()]
    if "from" in options:
        first = [number for number, line in enumerate(lines) if options["from"] in line]
        if not first:
            raise Finding(f"no line with '{options['from']}' in\n{printed}")
        lines = lines[first[0]:]
    if "head" in options:
        lines = lines[:int(options["head"])]
    if "tail" in options:
        lines = lines[-int(options["tail"]):]
    return lines


def masked(lines):
    """Without what differs from run to run: numbers, the widths of columns that follow from them, whether an interval of a speed-up holds 1,
    and the order of lines (policies that start in one second are listed by name)."""
    text = "\n".join(lines).replace(", no difference)", ")")
    text = re.sub(r"\b[0-9a-f]{7,}\b|[-+]?\d+(?:[.:]\d+)*(?:e[-+]?\d+)?", "#", text)
    return sorted(re.sub(r"\s+", " ", re.sub(r"-{2,}", "--", line)).strip() for line in text.split("\n"))


def run_document(root, document, dovetail, not_run, update=False):
    """What is wrong, a text each; with `update` the document's outputs and pictures are written anew."""
    findings, printed, outputs = [], None, []
    with tempfile.TemporaryDirectory(prefix="dovetail-docs-") as folder:
        session = Session(root, folder, dovetail, not_run)
        for block in document.blocks:
            place = f"{document.path}:{block.line}: "
            try:
                if block.language == "sh":
                    printed = session.run_sh(block)
                elif block.language == "python":
                    printed = session.run_python(block)
                elif block.language == "yaml":
                    session.check_yaml(block)
                elif block.language == "output" and printed is not None:
                    found = shown_part(printed, block.options)
                    outputs.append((block, found))
                    if not update and masked(found) != masked(block.lines):
                        raise Finding("what is shown is not what is printed, numbers aside; to write it: DOVETAIL_UPDATE_README=1\n" + "\n".join(found))
            except Finding as finding:
                findings.append(place + str(finding))
                break
        else:
            findings += keep_pictures(root, document, session, update)
    if update and not findings:
        lines = list(document.lines)
        for block, found in reversed(outputs):
            lines[block.line - 1:block.line - 1 + len(block.lines)] = found
        (root / document.path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return findings


def keep_pictures(root, document, session, update):
    findings, folder = [], session.folder
    for number, line in document.prose:
        for made, shown in PICTURE.findall(line):
            if not (folder / made).exists():
                findings.append(f"{document.path}:{number}: the commands make no {made}")
            elif update:
                (root / shown).write_text(session.without_places((folder / made).read_text()))
            elif not (root / shown).exists():
                findings.append(f"{document.path}:{number}: {shown} is not there; to write it: DOVETAIL_UPDATE_README=1")
    return findings


def check_inline_commands(document, dovetail):
    """Commands within sentences are patterns that cannot be run; their command and options must exist."""
    findings, helps = [], {}
    for number, code in document.inline_code():
        words = re.sub(r"^mpirun -np \w+ |^launch/run_local.sh \w+ ", "dovetail ", code).split()
        if words[:1] != ["dovetail"] or len(words) < 2:
            continue
        words = words[2:] if words[1] == "dovetail" else words[1:]
        if words[0].startswith("-"):
            words.insert(0, "")
        if words[0] not in helps:
            process = subprocess.run([dovetail, *words[:1 if words[0] else 0], "--help"], capture_output=True, text=True, check=False)
            helps[words[0]] = process.stdout if process.returncode == 0 else None
        if helps[words[0]] is None:
            findings.append(f"{document.path}:{number}: `{code}`: there is no command {words[0]}")
            continue
        for option in re.findall(r"--[a-z][a-z\-]*", code):
            if not re.search(rf"(?<![\w-]){option}(?![\w-])", helps[words[0]]):
                findings.append(f"{document.path}:{number}: `{code}`: dovetail {words[0]} has no option {option}")
    return findings


def main():
    dovetail = str(Path(os.environ["DOVETAIL_BIN"]).resolve())
    update = os.environ.get("DOVETAIL_UPDATE_README") is not None
    not_run = read_table(TOP / "tests" / "docs" / "not_run.txt")
    findings = []
    for path in sys.argv[1:]:
        document = Document(TOP, path)
        findings += check_inline_commands(document, dovetail) + run_document(TOP, document, dovetail, not_run, update)
    print("\n".join(findings), end="\n" if findings else "")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
