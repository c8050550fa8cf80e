"""The documents of the project, as the checks of this folder read them: prose, code blocks, links, headings, inline code."""
import re
import shlex
from pathlib import Path

FENCE = re.compile(r"^(\s*)(`{3,})(.*)$")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block:
    """A fenced code block. Its first line is ```LANGUAGE WORD... KEY=VALUE...; `line` is the number of the first line of its text."""

    def __init__(self, info, line):
        words = shlex.split(info)
        self.language = words[0] if words else ""
        self.flags = [word for word in words[1:] if "=" not in word]
        self.options = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        self.line = line
        self.lines = []

    @property
    def text(self):
        return "".join(line + "\n" for line in self.lines)


class Document:
    def __init__(self, root, path):
        self.root, self.path = Path(root), str(path)
        self.lines = (self.root / path).read_text(encoding="utf-8").splitlines()
        self.blocks = []
        self.prose = []  # (line number, text): everything outside of code blocks
        block, end = None, None
        for number, line in enumerate(self.lines, 1):
            fence = FENCE.match(line)
            if block is None and fence:
                block, end = Block(fence[3].strip(), number + 1), fence[2]
                self.blocks.append(block)
            elif block is not None and fence and fence[2] == end and not fence[3].strip():
                block = None
            elif block is not None:
                block.lines.append(line)
            else:
                self.prose.append((number, line))
        self.is_open = block is not None

    def anchors(self):
        """The anchors of the headings, spelled as GitHub does."""
        headings = [re.sub(r"^#+\s*", "", line) for _, line in self.prose if re.match(r"#{1,6} ", line)]
        return [re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]

    def links(self):
        return [(number, target) for number, line in self.prose for target in LINK.findall(INLINE.sub("``", line))]

    def inline_code(self):
        return [(number, code) for number, line in self.prose for code in INLINE.findall(line)]


def list_documents(root):
    """Paths from the root of every README.md of the project."""
    root = Path(root)
    found = [path.relative_to(root) for folder in ("", "experiments", "framework", "launch", "models", "results", "tests")
             for path in [root / folder / "README.md"] if path.exists()]
    return [str(path) for path in found]


def commands_of(block):
    """The commands of a block of sh, one string each; lines that end in a backslash are joined, comments left out."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def read_table(path):
    """Rows of a text file `what | why`, without comments: {what: why}."""
    rows = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            what, _, why = line.rpartition(" | ")
            rows[what.strip()] = why.strip()
    return rows
