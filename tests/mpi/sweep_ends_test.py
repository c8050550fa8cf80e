#!/usr/bin/env python3
"""Sweeps that fail, and those that are refused before their first point.

sweep_ends_test.py [unittest arguments]; cli.py has the environment.
"""
import re
import unittest

from cli import dovetail
from sweep_case import SweepTest, digests


class Ends(SweepTest):
    def test_a_mismatch_goes_on_and_the_sweep_ends_with_4(self):
        # A ubatch of one token multiplies vectors instead of matrices: not equal to the bit.
        path = self.file("  policies.dual_batch.split: [{sizes: [1, 0]}, request]\n  verify.mode: [bitwise, tolerance]\n")
        outcome = self.run_sweep(path, code=4)
        self.assertEqual(self.statuses()[0], "mismatch", str(outcome))
        self.assertEqual([self.statuses()[1], self.statuses()[3]], ["complete", "complete"])
        row = self.read()["points"][0]["policies"][1]
        self.assertEqual((row["verdict"], row["step_ns"], row["speed_up"]), ("mismatch", None, None))
        self.run_sweep(path, code=4)  # what mismatched runs again
        self.assertEqual(self.read()["points"][0]["folder"], "point-0000.retry1")

    def test_a_failure_ends_the_sweep_with_3_and_leaves_what_was_finished(self):
        fault = "{kind: exception, rank: 1, ubatch: 0, layer: 0, phase: experts, iteration: 1}"
        path = self.file(f"  fault: [none, {fault}, none]\n")
        outcome = self.run_sweep(path, code=3)
        self.assertIn("injected fault", outcome.err)
        self.assertEqual(self.statuses(), ["complete", "running", "pending"])
        self.assertEqual(self.folders(), ["point-0000", "point-0001"])
        before = digests(self.out / "point-0000")
        self.run_sweep(path, code=3)
        self.assertEqual(digests(self.out / "point-0000"), before)
        self.assertEqual(self.folders(), ["point-0000", "point-0001", "point-0001.retry1"])

    def test_bad_input_that_only_the_run_can_find_names_the_point(self):
        path = self.file(f"  model.config: [tests/fixtures/qwen3-moe-tiny/config.json, {self.folder}/none.json]\n")
        outcome = self.run_sweep(path, code=2)
        self.assertRegex(outcome.err, r"none.json.*\(point 1 of the sweep \(model.config = ")
        self.assertEqual(self.statuses(), ["complete", "incomplete"])
        self.assertIn("none.json", self.read()["points"][1]["problem"])


class RefusingSweeps(SweepTest):
    def refuse(self, expected, path, *arguments, **options):
        outcome = self.run_sweep(path, *arguments, code=2, **options)
        said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]
        self.assertEqual(len([line for line in said if re.search(expected, line)]), 1, f"want once: {expected}\n{outcome}")


class RefusedSweep(RefusingSweeps):
    """One of the cases of RefusedSweeps, which takes minutes."""

    def test_a_bad_point_before_the_first_one_runs(self):
        self.refuse(r"unknown exchange 'pigeon'.*\(point 1 of the sweep \(execution.exchange = pigeon\)\)",
                    self.file("  execution.exchange: [gather, pigeon]\n"))
        self.assertFalse(self.out.exists())


class RefusedSweeps(RefusingSweeps):
    def test_any_bad_point_before_the_first_one_runs(self):
        for expected, axes in (
            (r"sweep.yaml:13:35: workload.requests.count: expected a whole number.*point 2 of the sweep",
             "  workload.requests.count: [1, 2, many]\n"),
            (r"unknown exchange 'pigeon'.*\(point 1 of the sweep \(execution.exchange = pigeon\)\)",
             "  execution.exchange: [gather, pigeon]\n"),
            (r"unknown key 'iteration'", "  execution.iteration: [1]\n"),
            (r"unknown policy 'triple'", "  policies: [sequential, triple]\n"),
            (r"expected a list of at least one value", "  workload.seed: []\n"),
            (r"duplicate key", "  workload.seed: [1]\n  workload.seed: [2]\n"),
            (r"more than 10000 points", f"  workload.seed: {list(range(101))}\n  execution.warmup: {list(range(100))}\n"),
            (r"2 ranks is no multiple of 4.*point 1 of", "  parallel.expert_parallel: [2, 4]\n"),
        ):
            with self.subTest(axes=axes):
                self.refuse(expected, self.file(axes))
                self.assertFalse(self.out.exists())

    def test_a_swept_key_on_the_command_line(self):
        path = self.file("  workload.seed: [1, 2]\n")
        self.refuse(r"--set workload.seed=7: 'workload.seed' is swept", path, "--set", "workload.seed=7")

    def test_folders_of_others_stay_as_they_are(self):
        path = self.file("  workload.seed: [1, 2]\n")
        self.run_sweep(path)
        before = digests(self.out)
        self.refuse("holds the results of another experiment", path, "--set", "execution.iterations=3")
        self.refuse("holds the results of another experiment", path, "--policy", "dual_batch")
        self.refuse("begun on 2 ranks, these are 4", path, ranks=4)
        self.refuse("not empty", self.file())  # one run
        self.assertEqual(digests(self.out), before)
        alone = self.folder / "alone"
        self.run_sweep(self.file(), out=alone)
        self.refuse("holds the results of another experiment", self.file("  workload.seed: [1, 2]\n"), out=alone)
        precious = self.folder / "precious"
        precious.mkdir()
        (precious / "precious.txt").write_text("precious")
        self.refuse("not empty", self.file("  workload.seed: [1, 2]\n"), out=precious)
        self.assertEqual([one.name for one in precious.iterdir()], ["precious.txt"])

    def test_compare_takes_a_sweep_alone_and_reads_it_strictly(self):
        self.run_sweep(self.file("  workload.seed: [1]\n"))
        self.assertEqual(dovetail("compare", self.out, self.out / "point-0000").code, 2)
        self.assertEqual(dovetail("compare", self.out / "point-0000").code, 0)
        good = (self.out / "sweep.json").read_text()
        for damaged in ("{", "[]", good.replace('"keys"', '"kees"'), good.replace('"complete"', '"splendid"'), good.replace('"version": 2', '"version": 9')):
            self.assertNotEqual(damaged, good)
            (self.out / "sweep.json").write_text(damaged)
            outcome = dovetail("compare", self.out)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertIn("sweep.json", outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
