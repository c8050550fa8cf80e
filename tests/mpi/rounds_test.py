#!/usr/bin/env python3
"""Rounds in whole runs: their order and what files say of it, control, and ends of all kinds.

rounds_test.py [unittest arguments]
"""
import json
import shutil
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from cli import BIN, MPIRUN, TOP, CliTest, dovetail, mpirun

EXPERIMENT = """
experiment: rounds
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: 2}
workload: {%(workload)s, seed: 9}
execution: {warmup: 1, iterations: %(iterations)d, timeout_s: 20, rounds: %(rounds)d, round_seed: 5, control: %(control)s}
policies: [{name: sequential}, {name: dual_batch, ubatches: 2}, {name: small_pages, schedule: sequential, page_size: 4}]
verify: {baseline: sequential, mode: tolerance, routing: %(routing)s}
record: {outputs: [hidden, logits, routing, kv], timing: ops, profiled_iterations: 1}
"""
PREFILL = "phase: prefill, requests: {count: 4, length: 24}"
DECODE = "phase: decode, requests: {count: 4, context_length: 20}, steps: 2, variants: 2"


class Rounds(CliTest):
    def experiment(self, more="", **values):
        return self.write(EXPERIMENT % {"workload": PREFILL, "iterations": 7, "rounds": 3, "control": "true", "routing": "natural", **values} + more)

    def rank_files(self, rank=0):
        return {path.parent.name: h5py.File(path) for path in sorted((self.folder / "run").glob(f"*/rank-{rank:05}.h5"))}

    def check_order(self, files, sizes):
        """Policies ran in their places of each round, and each has these numbers of iterations in the rounds."""
        began = sorted((start, name) for name, file in files.items() for start in file["timing/start_ns"][:, 0])
        seen = [name for i, (_, name) in enumerate(began) if i == 0 or began[i - 1][1] != name]
        wanted = [name for turn in range(len(sizes)) for name in sorted(files, key=lambda one: files[one]["timing/round_place"][turn])]
        wanted = [name for i, name in enumerate(wanted) if i == 0 or wanted[i - 1] != name]  # last of a round and first of the next
        self.assertEqual(seen, wanted)
        for file in files.values():
            self.assertEqual(np.bincount(file["timing/round"][:]).tolist(), sizes)
            self.assertEqual(file["timing"].attrs["round_seed"], 5)
            self.assertEqual(file["timing"].attrs["round_warmup"], 1)
        self.assertEqual(len({file["timing"].attrs["rounds_began_ns"] for file in files.values()}), 1)

    def test_policies_take_turns_and_all_is_verified(self):
        run, _ = self.run_experiment(2, self.experiment(), "run")
        files = self.rank_files()
        self.assertEqual(set(files), {"sequential", "dual_batch", "small_pages", "control"})
        self.check_order(files, [2, 2, 3])
        for name, other in self.rank_files(1).items():
            self.assertEqual(files[name]["timing/round_place"][:].tolist(), other["timing/round_place"][:].tolist())
        summary = json.loads((run / "control" / "summary.json").read_text())
        self.assertEqual(summary["verification"]["verdict"], "verified")
        again = dovetail("check", run / "experiment.yaml", "--ranks", "2")
        self.assertEqual(again.code, 0, str(again))

    def test_profiled_iterations_are_of_all_rounds(self):
        """What is profiled is of the time of what is timed; outputs are those of timed iterations all the same."""
        for profiled, shares in ((1, [0, 0, 1]), (3, [1, 1, 1]), (5, [1, 2, 2])):
            with self.subTest(profiled=profiled):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                text = self.experiment(workload=DECODE, iterations=6, control="false").read_text().replace("profiled_iterations: 1", f"profiled_iterations: {profiled}")
                run, _ = self.run_experiment(2, self.write(text), "run")
                for name, file in self.rank_files().items():
                    starts, rounds = file["timing/start_ns"][:, 0], file["timing/round"][:]
                    began = [starts[rounds == each].min() for each in range(3)]
                    full = file["timing/profiled_step_ns"][::2, 0, 0]  # of two steps the first
                    self.assertEqual(np.bincount(np.searchsorted(began, full) - 1, minlength=3).tolist(), shares, name)
                    # What only its place in a profiled step makes slower must not be taken for what the times of ops cost.
                    unrecorded = file["timing/further_step_ns"][::2, 2, 0]
                    self.assertEqual((full < unrecorded).tolist(), [(i % 2 + i // 2) % 2 == 1 for i in range(profiled)], name)  # in turn for each of two variants
                    if name != "sequential":
                        self.assertEqual(json.loads((run / name / "summary.json").read_text())["verification"]["verdict"], "verified")

    def test_a_run_ends_once_it_is_precise_enough(self):
        """All ranks and policies have run equally many rounds; what has not run holds fill values; all is verified. Intervals of 100 %: only rounds that
        differ by several times are not within."""
        run, _ = self.run_experiment(2, self.experiment(iterations=36, rounds=18, control="false, precision: 1.0"), "run")
        ran = {}
        for rank in (0, 1):
            for name, file in self.rank_files(rank).items():
                count = int(file["timing"].attrs["iterations_run"])
                ran.setdefault(name, set()).add(count)
                self.assertEqual(bytes(file.attrs["status"]), b"complete")
                self.assertTrue((file["timing/step_ns"][:count] > 0).all() and (file["timing/step_ns"][count:] == -1).all())
                self.assertTrue((file["hash/timed"][:count, :, 2] >= 0).all() and (file["hash/timed"][count:] == -1).all())
        self.assertEqual(len(set.union(*ran.values())), 1, ran)
        for name in ran:
            summary = json.loads((run / name / "summary.json").read_text())
            self.assertTrue(summary["ended_early"])
            self.assertEqual([summary["step_ns"]["count"]], list(ran[name]))
            self.assertEqual(summary["timings"], "valid")
            self.assertEqual((summary["verification"] or {"verdict": "verified"})["verdict"], "verified")
        self.assertIn(ran["sequential"].pop(), range(12, 36, 2))

    def test_replayed_routing_contexts_and_variants(self):
        """The baseline's choice is there before others begin; a cache of the policy's own for what it replays."""
        run, _ = self.run_experiment(2, self.experiment(workload=DECODE, iterations=6, rounds=3, routing="replay"), "run")
        files = self.rank_files()
        self.check_order(files, [2, 2, 2])
        self.assertEqual(files["sequential"]["timing/round_place"][0], 0)
        for name in ("dual_batch", "small_pages", "control"):
            self.assertEqual(files[name].attrs["routing"], "replayed")
            self.assertEqual(json.loads((run / name / "summary.json").read_text())["verification"]["verdict"], "verified")

    def test_a_killed_rank_loses_no_finished_iteration_of_any_policy(self):
        fault = "fault: {kind: kill, policy: dual_batch, rank: 1, ubatch: 0, layer: 1, phase: experts, iteration: 5}\n"  # in the third round
        outcome = mpirun(2, "run", self.experiment(fault), "--out", self.folder / "run")
        self.assertNotEqual(outcome.code, 0, str(outcome))
        for rank in (0, 1):
            for name, file in self.rank_files(rank).items():
                finished = file["timing/step_ns"][:, 0] > 0
                self.assertGreaterEqual(finished.sum(), 4, name)  # two rounds of two
                self.assertTrue(finished[:finished.sum()].all(), name)
                self.assertIn(file.attrs["status"], (b"running", b"failed"))

    def test_a_failure_names_its_policy_and_ends_the_others(self):
        fault = "fault: {kind: exception, policy: dual_batch, rank: 1, ubatch: 0, layer: 1, phase: experts, iteration: 5}\n"
        outcome = mpirun(2, "run", self.experiment(fault), "--out", self.folder / "run")
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertIn("policy dual_batch: rank 1, ubatch 0, layer 1, phase experts", outcome.err)
        for name, file in self.rank_files(1).items():
            self.assertEqual(file.attrs["status"], b"failed", name)
            self.assertIn(b"policy dual_batch", file.attrs["failure"])
            self.assertEqual(file.attrs["failure"].startswith(b"ended with"), name != "dual_batch")

    def test_sigusr1_keeps_what_is_finished(self):
        path = self.experiment(iterations=90000, rounds=1000)
        child = subprocess.Popen([*MPIRUN, "-np", "2", BIN, "run", str(path), "--out", str(self.folder / "run")], cwd=TOP,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not self.has_second_round():
            time.sleep(0.1)
        child.send_signal(signal.SIGUSR1)
        out, err = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 5, out + err)
        for name, file in self.rank_files().items():
            self.assertEqual(file.attrs["status"], b"stopped", name)
            finished = int((file["timing/step_ns"][:, 0] > 0).sum())
            self.assertIn(f"policy {name} was asked to stop after {finished} of 90000 timed iterations", out)
            self.assertGreaterEqual(finished, 90)

    def has_second_round(self):
        try:
            return any(file["timing/step_ns"][90, 0] > 0 for file in self.rank_files().values())
        except (OSError, KeyError):
            return False

    def test_bad_input(self):
        for more, said in ((["execution.rounds=8"], "execution.rounds: 8, and policy sequential has 7 iterations; allowed: 0 to 7"),
                           (["execution.rounds=1", "execution.precision=0.5"], "execution.rounds: 1 with execution.precision"),
                           (["policies[0].name=control", "verify.baseline=control"], "policies[0].name: 'control' is the name"),
                           (["policies[1].rounds=2"], "a rounds of a policy's own"),
                           (["execution.control=maybe"], "expected true or false")):
            outcome = dovetail("check", self.experiment(), "--ranks", "2", *[word for one in more for word in ("--set", one)])
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertIn(said, outcome.err)


if __name__ == "__main__":
    unittest.main()
