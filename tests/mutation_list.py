"""Reads tests/mutations.txt: changes of one line each, and the tests that should notice. Its head says how an entry looks."""
import os
import re
from dataclasses import dataclass

LIST = "tests/mutations.txt"


class ListError(Exception):
    """Something in the list, with its line; the text says what."""


@dataclass
class Mutation:
    name: str
    file: str      # below the root
    before: str    # without the blanks around it
    after: str     # the same; empty = the line goes
    tests: list    # names of CTest, with ":" and GoogleTest's filter where not all cases are to run
    line: int      # of the entry in the list
    needs_gpu: bool = False

    def apply(self, text):
        """The file's text with the line changed. Throws ListError unless it is there exactly once."""
        lines = text.split("\n")
        found = [i for i, line in enumerate(lines) if line.strip() == self.before]
        if len(found) != 1:
            raise ListError(f"{LIST}:{self.line}: {self.name}: {self.file} has this line {len(found)} times, not once: {self.before}")
        line = lines[found[0]]
        lines[found[0]] = line.replace(self.before, self.after)
        return "\n".join(lines)


def parse(text):
    """The mutations of a list, in its order."""
    mutations = []
    for number, line in enumerate(text.split("\n"), 1):
        def fail(problem):
            raise ListError(f"{LIST}:{number}: {problem}")

        if not line.strip() or line.startswith("#"):
            continue
        head = re.fullmatch(r"\[(\w+)\](?: (gpu))?", line)
        if head:
            if any(mutation.name == head[1] for mutation in mutations):
                fail(f"'{head[1]}' is there twice")
            mutations.append(Mutation(head[1], "", "", "", [], number, head[2] is not None))
            continue
        if not mutations:
            fail("an entry begins with [name]")
        current = mutations[-1]
        kind, _, value = line.partition(" ")
        value = value.strip()
        if kind == "file" and not current.file:
            current.file = value
        elif kind == "-" and not current.before:
            current.before = value
        elif kind == "+" and not current.after:
            current.after = value
        elif kind == "tests" and not current.tests:
            current.tests = value.split()
        else:
            fail(f"'{kind}'; allowed: file, -, + and tests, each once, in an entry")
    for mutation in mutations:
        if not (mutation.file and mutation.before and mutation.tests) or mutation.before == mutation.after:
            raise ListError(f"{LIST}:{mutation.line}: {mutation.name} needs file, - and tests, and + another line than -")
    return mutations


def read_text(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def read(root):
    """The list of a tree."""
    return parse(read_text(root, LIST))


def problems(root, tests=None):
    """What of the list does not fit the tree, a line each. `tests`: the names that there are, where they are known."""
    try:
        mutations = read(root)
    except ListError as error:
        return [str(error)]
    found = []
    for mutation in mutations:
        where = f"{LIST}:{mutation.line}: {mutation.name}"
        try:
            mutation.apply(read_text(root, mutation.file))
        except ListError as error:
            found.append(str(error))
        except OSError:
            found.append(f"{where}: no file {mutation.file}")
        if tests is not None:
            found += [f"{where}: no test {test}" for test in mutation.tests if test.partition(":")[0] not in tests]
    return found
