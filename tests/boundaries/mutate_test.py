"""tests/mutate.py on a tree of one file whose builds and tests are played: its verdicts, and that it leaves the file as it was."""
import io
import os
import sys
import tempfile
import unittest
from contextlib import redirect_stdout

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import mutate  # noqa: E402: it lies one folder up
import mutation_list  # noqa: E402

TEXT = "int a() {\n  return 1;\n}\n"
LIST = "[other]\nfile a.cpp\n- return 1;\n+ return 2;\ntests quick slow.np2\n"


class PlayedTree:
    """`compiles` and `fails` say, by the file's text, what happens; `skipped` are tests that do not run."""

    def __init__(self, source, compiles=lambda text: True, fails=lambda test, text: False, skipped=(), preset="host"):
        self.source, self.compiles, self.fails, self.skipped, self.preset = source, compiles, fails, skipped, preset
        self.built, self.tested = [], []
        with open(os.path.join(source, "a.cpp"), "w", encoding="utf-8") as file:
            file.write(TEXT)

    def text(self):
        return mutation_list.read_text(self.source, "a.cpp")

    def build(self, targets, **environment):
        self.built.append(targets)
        self.environment = environment
        return (0, "", 1.0) if self.compiles(self.text()) else (1, "a.cpp:2: error: no\n", 1.0)

    def test(self, test, bound_s):
        if test in self.skipped:
            raise mutate.NotRun(test)
        self.tested.append((test, bound_s))
        return "Suite.Case" if self.fails(test, self.text()) else None, 1.0


class Verdicts(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.mutations = mutation_list.parse(LIST)

    def verdict(self, **played):
        tree = PlayedTree(self.folder.name, **played)
        with redirect_stdout(io.StringIO()):
            times = mutate.check_baseline(tree, self.mutations)
        verdict = mutate.try_mutation(tree, self.mutations[0], times)
        self.assertEqual(tree.text(), TEXT)
        return verdict, tree

    def test_killed_by_the_first_that_fails(self):
        verdict, tree = self.verdict(fails=lambda test, text: test == "slow.np2" and "return 2;" in text)
        self.assertEqual(verdict, ("killed by", "slow.np2 (Suite.Case)"))
        self.assertEqual(tree.built[-2:], [["test_quick"], ["test_slow"]])
        self.assertEqual(tree.environment, {"CCACHE_READONLY": "1"})
        self.assertEqual(tree.tested[-2:], [("quick", mutate.LEAST_BOUND_S), ("slow.np2", mutate.LEAST_BOUND_S)])

    def test_no_more_is_built_than_needed(self):
        verdict, tree = self.verdict(fails=lambda test, text: "return 2;" in text)
        self.assertEqual(verdict, ("killed by", "quick (Suite.Case)"))
        self.assertEqual(tree.built[1:], [["test_quick"]])

    def test_survived(self):
        self.assertEqual(self.verdict()[0], ("SURVIVED", "quick slow.np2"))

    def test_does_not_compile(self):
        self.assertEqual(self.verdict(compiles=lambda text: "return 2;" not in text)[0], ("DOES NOT COMPILE", "a.cpp:2: error: no"))

    def test_what_is_only_compiled_runs_nothing(self):
        for compiles, wanted in ((lambda text: True, ("compiles:", "quick slow.np2")),
                                 (lambda text: "return 2;" not in text, ("DOES NOT COMPILE", "a.cpp:2: error: no"))):
            tree = PlayedTree(self.folder.name, compiles=compiles, fails=lambda test, text: True, preset="cuda")
            with redirect_stdout(io.StringIO()):
                times = mutate.check_baseline(tree, self.mutations, runs_tests=False)
            self.assertEqual(mutate.try_mutation(tree, self.mutations[0], times, runs_tests=False), wanted)
            self.assertEqual((tree.text(), tree.tested), (TEXT, []))

    def test_a_tree_that_fails_without_a_mutation(self):
        for played in ({"compiles": lambda text: False}, {"fails": lambda test, text: True}, {"skipped": ["quick"]}):
            with self.assertRaises(mutate.Failed):
                self.verdict(**played)

    def test_fewer_gpus_than_a_test_needs(self):
        verdict, tree = self.verdict(skipped=["slow.np2"], preset="cuda", fails=lambda test, text: "return 2;" in text)
        self.assertEqual(verdict, ("killed by", "quick (Suite.Case)"))
        self.assertEqual(tree.built[-1], ["test_quick"])
        self.assertEqual(self.verdict(skipped=["quick", "slow.np2"], preset="cuda")[0], ("skipped:", "needs more GPUs"))


class Parts(unittest.TestCase):
    def test_targets(self):
        self.assertEqual([mutate.target_of(test) for test in ("plan", "exec:Baton.*", "exchange_link.np2", "mpi_clock.np2:Clock.*", "cli.Verdicts", "gpu.GpuGrids")],
                         ["test_plan", "test_exec", "test_exchange_link", "test_mpi_clock", "dovetail", "dovetail"])
        self.assertEqual([mutate.target_of(test) for test in ("mpi_failure.np4", "mpi_failure.bad_input.np2", "load.none", "mpi_harness.exits")],
                         ["test_mpi_failure", "mpi_failing_run", "mpi_failing_load", "mpi_harness_broken"])

    def test_first_failures(self):
        for output, wanted in (("[  PASSED  ] 1\n[  FAILED  ] Split.Cuts/2 (1 ms)\n[  FAILED  ] Split.Other\n", "Split.Cuts/2"),
                               ("x\nFAIL: test_runs (cli.Run)\n", "test_runs"), ("12: FAIL: test_a (b)\n", "test_a"), ("1/1 Test #1: plan ...***Timeout 60 s\n", "Timeout"),
                               ("plan ...***Exception: SegFault  1 s\n", "Exception: SegFault"), ("plan ...***Failed  1 s\n", "Failed"), ("", "failed")):
            self.assertEqual(mutate.first_failure(output), wanted)

    def test_a_bound_ends_what_a_command_has_started(self):
        code, output, seconds = mutate.run(["sh", "-c", "echo begun; sleep 60 & wait"], "/", 0.5)
        self.assertIsNone(code)
        self.assertLess(seconds, 30)
        self.assertIn("begun", output)

    def test_a_copy_is_left_alone_where_it_is_equal(self):
        with tempfile.TemporaryDirectory() as target:
            mutate.copy_tree(target)
            readme, extra = os.path.join(target, "README.md"), os.path.join(target, "tests", "extra.txt")
            times = os.stat(readme).st_mtime_ns
            for path in (extra, os.path.join(target, "tests", "run.sh")):
                with open(path, "w", encoding="utf-8") as file:
                    file.write("changed\n")
            mutate.copy_tree(target)
            self.assertEqual(os.stat(readme).st_mtime_ns, times)
            self.assertFalse(os.path.exists(extra))
            self.assertEqual(mutation_list.read_text(target, "tests/run.sh"), mutation_list.read_text(mutate.ROOT, "tests/run.sh"))
            self.assertFalse(os.path.exists(os.path.join(target, "build")))


if __name__ == "__main__":
    unittest.main()
