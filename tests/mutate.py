"""Behind tests/mutate.sh: applies the mutations of tests/mutations.txt one by one to a copy of the tree, builds the tests that should notice, runs them.

A line for each: "killed by TEST (CASE)", "SURVIVED", "DOES NOT COMPILE", or "skipped" for one that needs a GPU where there is none; with --compile, which
runs nothing, "compiles". Exit code 1: one survived or does not compile, or a test fails without a mutation; 2: the list or the arguments are wrong."""
import argparse
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import mutation_list

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORK = os.path.join(ROOT, "build-mutate")
LEAST_BOUND_S = 60        # of a mutation's tests
BOUND_OVER_BASELINE = 10  # in times of what they take without one
BUILD_BOUND_S = 1800


class Failed(Exception):
    """The script cannot go on; the text says why."""


class NotRun(Failed):
    """A test that shows as skipped."""


def own_files():
    """Paths from the root of the files that git knows or would add; without git, of all but builds and results."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=False)
    if listed.returncode == 0:
        return {name for name in listed.stdout.decode().split("\0") if name and os.path.isfile(os.path.join(ROOT, name))}
    found = set()
    for folder, folders, files in os.walk(ROOT):
        if folder == ROOT:
            folders[:] = [name for name in folders if not name.startswith(("build", ".")) and name != "results"]
        found |= {os.path.relpath(os.path.join(folder, name), ROOT) for name in files}
    return found


def copy_tree(target):
    """Makes `target` hold our files as they are now; leaves equal ones alone, so that little is built again."""
    wanted = own_files()
    for folder, folders, files in os.walk(target):
        folders[:] = [name for name in folders if not (folder == target and name.startswith("build"))]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.relpath(path, target) not in wanted:
                os.remove(path)
    for name in wanted:
        source, copy = os.path.join(ROOT, name), os.path.join(target, name)
        with open(source, "rb") as file:
            content = file.read()
        if os.path.isfile(copy):
            with open(copy, "rb") as file:
                if file.read() == content:
                    continue
        os.makedirs(os.path.dirname(copy), exist_ok=True)
        shutil.copy2(source, copy)
        os.utime(copy)


# Programs that have several tests of CTest each, named group.test.
PROGRAMS = {"cli": "dovetail", "gpu": "dovetail", "load": "mpi_failing_load", "mpi_failure": "mpi_failing_run", "mpi_harness": "mpi_harness_broken"}


def target_of(test):
    """The target that a test of CTest runs."""
    name = re.sub(r"(\.np\d+)?(:.*)?$", "", test)
    return PROGRAMS[name.partition(".")[0]] if "." in name else "test_" + name


def end_group(process):
    """Ends a process and all that it started; returns what was left of its output."""
    for kind in (signal.SIGTERM, signal.SIGKILL):  # mpirun ends its ranks at the first
        try:
            os.killpg(process.pid, kind)
            return process.communicate(timeout=10)[0]
        except (subprocess.TimeoutExpired, ProcessLookupError):
            continue
    return b""


def run(command, folder, bound_s, **environment):
    """(exit code, output, seconds); exit code None where the bound has passed, and all that the command started is ended."""
    start = time.monotonic()
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                          env={**os.environ, **environment}) as process:
        try:
            output = process.communicate(timeout=bound_s)[0]
            code = process.returncode
        except subprocess.TimeoutExpired:
            code, output = None, end_group(process)
        except BaseException:
            end_group(process)
            raise
    return code, output.decode(errors="replace"), time.monotonic() - start


class Tree:
    """The copy, in one preset."""

    def __init__(self, preset):
        self.source = os.path.join(WORK, "source")
        self.build_folder = os.path.join(self.source, "build" if preset == "host" else "build-" + preset)
        self.preset = preset
        # A mutation changes one source; joined ones would be compiled with it.
        code, output, _ = run(["cmake", "--preset", preset, "-DDOVETAIL_JOIN_SOURCES=OFF"], self.source, BUILD_BOUND_S)
        if code != 0:
            raise Failed("configuring failed:\n" + output)

    def build(self, targets, **environment):
        return run(["cmake", "--build", "--preset", self.preset, "--target", *targets], self.source, BUILD_BOUND_S, **environment)

    def test(self, test, bound_s):
        """(which case failed and None where none did, seconds). Throws NotRun where it shows as skipped."""
        name, _, cases = test.partition(":")
        command = ["ctest", "--test-dir", self.build_folder, "-R", "^" + re.escape(name) + "$", "--verbose", "--no-tests=error"]
        code, output, seconds = run(command, self.source, bound_s, GTEST_FILTER=cases or "*")
        if code is None:
            return f"no end within {bound_s:.0f} s", seconds
        if re.search(r"No tests were found|\*\*\*(Skipped|Not Run)|Running 0 tests", output):
            raise NotRun(f"{test} did not run:\n{output}")
        return first_failure(output) if code != 0 else None, seconds


def first_failure(output):
    """The case that failed, by what GoogleTest, unittest or CTest print."""
    for pattern in (r"\[  FAILED  \] ([\w/]+\.[\w/]+)", r"^(?:\d+: )?(?:FAIL|ERROR): (\S+)", r"\*\*\*(Timeout|Exception(?:: [A-Za-z]+)?|Failed)"):
        if found := re.search(pattern, output, re.MULTILINE):
            return found[1]
    return "failed"


def check_baseline(tree, mutations, runs_tests=True):
    """Builds everything once and returns the seconds of each test; each must pass without a mutation. One for more GPUs than there are has no entry. Where
    no test runs they are 0."""
    tests = sorted({test for mutation in mutations for test in mutation.tests})
    code, output, seconds = tree.build(sorted({target_of(test) for test in tests}))
    if code != 0:
        raise Failed("the tree does not compile without a mutation:\n" + output[-4000:])
    print(f"built without a mutation in {seconds:.0f} s", flush=True)
    if not runs_tests:
        return {test: 0.0 for test in tests}
    times = {}
    for test in tests:
        try:
            failure, seconds = tree.test(test, 600)
        except NotRun:
            if tree.preset == "host":
                raise
            continue
        if failure:
            raise Failed(f"{test} fails without a mutation: {failure}")
        times[test] = seconds
    print(f"{len(times)} tests pass without a mutation in {sum(times.values()):.0f} s", flush=True)
    return times


def try_mutation(tree, mutation, times, runs_tests=True):
    """(verdict, by whom or why)."""
    tests = [test for test in mutation.tests if test in times]
    if not tests:
        return "skipped:", "needs more GPUs"
    path = os.path.join(tree.source, mutation.file)
    original = mutation_list.read_text(tree.source, mutation.file)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(mutation.apply(original))
        for test in tests:
            # A compiler that is ended while it reads could leave the object of another text in the cache: nothing changed goes there.
            code, output, _ = tree.build([target_of(test)], CCACHE_READONLY="1")
            if code != 0:
                errors = [line for line in output.split("\n") if "error:" in line]
                return "DOES NOT COMPILE", (errors or [output[-300:]])[0][-300:]
            if not runs_tests:
                continue
            if failure := tree.test(test, max(LEAST_BOUND_S, BOUND_OVER_BASELINE * times[test]))[0]:
                return "killed by", f"{test} ({failure})"
        return ("SURVIVED" if runs_tests else "compiles:"), " ".join(tests)
    finally:
        with open(path, "w", encoding="utf-8") as file:
            file.write(original)


def try_all(mutations, runs_tests=True):
    """Returns the number of mutations by verdict. Without tests those that need a GPU need none."""
    counts = {}
    os.makedirs(os.path.join(WORK, "source"), exist_ok=True)
    lock = os.open(os.path.join(WORK, "lock"), os.O_CREAT | os.O_RDWR)  # until the process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Failed(f"another run works in {WORK}") from None
    copy_tree(os.path.join(WORK, "source"))
    has_gpu = bool(glob.glob("/dev/nvidia[0-9]*"))
    for preset, needs_gpu in (("host", False), ("cuda", True)):
        own = [mutation for mutation in mutations if mutation.needs_gpu == needs_gpu]
        if not own:
            continue
        if needs_gpu and runs_tests and not has_gpu:
            for mutation in own:
                print(f"{mutation.name:40} skipped: needs a GPU", flush=True)
            counts["skipped:"] = len(own)
            continue
        tree = Tree(preset)
        times = check_baseline(tree, own, runs_tests)
        for mutation in own:
            start = time.monotonic()
            verdict, by = try_mutation(tree, mutation, times, runs_tests)
            counts[verdict] = counts.get(verdict, 0) + 1
            print(f"{mutation.name:40} {verdict} {by}  [{time.monotonic() - start:.0f} s]", flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(prog="tests/mutate.sh", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutations to try; none = all")
    parser.add_argument("--list", action="store_true", help="print the mutations and their tests")
    parser.add_argument("--gpu", action="store_true", help="only those that need a GPU")
    parser.add_argument("--compile", action="store_true", help="build the tests of each mutation, also for GPUs where there are none, and run nothing")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        if found := mutation_list.problems(ROOT):
            raise mutation_list.ListError("\n".join(found))
        mutations = mutation_list.read(ROOT)
        unknown = set(options.names) - {mutation.name for mutation in mutations}
        if unknown:
            raise mutation_list.ListError(f"unknown: {' '.join(sorted(unknown))}; --list prints the names")
        if options.names:
            mutations = [mutation for mutation in mutations if mutation.name in options.names]
        if options.gpu:
            mutations = [mutation for mutation in mutations if mutation.needs_gpu]
        if options.list:
            for mutation in mutations:
                print(f"{mutation.name:40} {mutation.file}: {' '.join(mutation.tests)}{' (gpu)' if mutation.needs_gpu else ''}")
            return 0
        os.environ.setdefault("CCACHE_NOHASHDIR", "1")
        os.environ["CCACHE_BASEDIR"] = os.path.join(WORK, "source")
        counts = try_all(mutations, runs_tests=not options.compile)
    except mutation_list.ListError as error:
        print(error, file=sys.stderr)
        return 2
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    summary = ", ".join(f"{number} {verdict.removesuffix(' by').removesuffix(':')}" for verdict, number in sorted(counts.items()))
    print(f"{len(mutations)} mutations in {time.monotonic() - start:.0f} s: {summary}")
    return 1 if counts.get("SURVIVED") or counts.get("DOES NOT COMPILE") else 0


if __name__ == "__main__":
    sys.exit(main())
