"""The list of tests/mutate.sh keeps up with the code: each line that it changes is there exactly once, and with a build folder as second argument, each
test that it names."""
import os
import re
import subprocess
import sys

from sources import finish, root_from_arguments

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import mutation_list  # noqa: E402: it lies one folder up


def tests_of(build):
    """Names of all tests of a build folder."""
    listed = subprocess.run(["ctest", "--test-dir", build, "-N"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^\s*Test\s+#\d+: (\S+)", listed.stdout, re.MULTILINE))


def check(root, tests=None):
    return mutation_list.problems(root, tests)


if __name__ == "__main__":
    finish(check(root_from_arguments(), tests_of(sys.argv[2]) if len(sys.argv) > 2 else None))
