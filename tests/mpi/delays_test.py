#!/usr/bin/env python3
"""The injected fault `delay` under mpirun: its op is longer in every step of its policy, no other op and no other policy is, and results stay right.

delays_test.py [unittest arguments]
"""
import json
import unittest

import h5py

from cli import CliTest, dovetail, mpirun
from fault_cases import LENGTHS, TINY

ITERATIONS, PROFILED = 3, 2
ALLOW = ["--allow-fault", "delay"]
PASSES = {"full": "timing/ops", "compute_only": "timing/ops_compute_only", "comm_only": "timing/ops_comm_only"}
LATE = {"late": {"phase": "experts", "layer": 2, "ubatch": 1}, "late_exchange": {"phase": "dispatch", "layer": 1, "ubatch": 0}}


def experiment(delay_us, ranks=2, device="cpu", dtype="float32", keys=""):
    """`keys`: further ones of each policy. The last rank is late."""
    policies = "".join(f"  - {{name: {name}, schedule: dual_batch, ubatches: 2{keys}}}\n" for name in ("right", *LATE))
    faults = "".join(f"  - {{kind: delay, rank: {ranks - 1}, policy: {name}, delay_us: {delay_us}, phase: {at['phase']}, layer: {at['layer']}, "
                     f"ubatch: {at['ubatch']}}}\n" for name, at in LATE.items())
    return f"""experiment: delays
model: {{architecture: qwen3_moe, config: {TINY}, weights: {{seed: 42}}}}
parallel: {{expert_parallel: {ranks}}}
workload: {{phase: prefill, requests: {{lengths: {LENGTHS}}}, seed: 9}}
execution: {{device: {device}, dtype: {dtype}, warmup: 1, iterations: {ITERATIONS}, timeout_s: 30}}
policies:
{policies}verify: {{baseline: right, mode: bitwise}}
record: {{outputs: [hidden, logits, layers], timing: ops, profiled_iterations: {PROFILED}}}
fault:
{faults}"""


class DelayCase(CliTest):
    DELAY_US = 200_000  # no op of the tiny model is as late in all profiled steps, however busy the machine is

    def lengths(self, run, policy, rank, at, dataset):
        """Of the op `at` in each profiled step, in us; empty where the pass has no times of it."""
        with h5py.File(run / policy / f"rank-{rank:05d}.h5") as file:
            ops = [(op["phase"].decode(), int(op["layer"]), int(op["ubatch"])) for op in file["schedule/0"][:]]
            times = file[dataset][:, ops.index((at["phase"], at["layer"], at["ubatch"]))] if dataset in file else []
            return [(end - start) / 1e3 for start, end in times if start >= 0]

    def assert_late(self, run, ranks, resolution_us=0.0):
        """`resolution_us`: of the times of ops."""
        for name, at in LATE.items():
            for pass_name, dataset in PASSES.items():
                is_exchange = at["phase"] in ("dispatch", "combine")
                runs = pass_name == "full" or (pass_name == "comm_only") == is_exchange
                with self.subTest(policy=name, times_of=pass_name):
                    late = self.lengths(run, name, ranks - 1, at, dataset)
                    right = self.lengths(run, "right", ranks - 1, at, dataset)
                    self.assertEqual((len(late), len(right)), (PROFILED, PROFILED) if runs else (0, 0))
                    if runs:
                        self.assertGreaterEqual(min(late), self.DELAY_US - resolution_us)
                        self.assertLess(min(right), self.DELAY_US)
            for rank in range(ranks):
                with h5py.File(run / name / f"rank-{rank:05d}.h5") as file:
                    self.assertGreaterEqual(file["timing/step_ns"][:].min() / 1e3, self.DELAY_US, f"{name}: a timed step of rank {rank}")
            # Neither the op of the other policy, which is on the other lane, nor the same one of another ubatch.
            others = [other for policy, other in LATE.items() if policy != name] + [{**at, "ubatch": 1 - at["ubatch"]}]
            for other in others:
                self.assertLess(min(self.lengths(run, name, ranks - 1, other, "timing/ops")), self.DELAY_US, f"{name}: {other}")
        with h5py.File(run / "right" / "rank-00000.h5") as file:
            self.assertLess(file["timing/step_ns"][:].min() / 1e3, self.DELAY_US)

    def assert_recorded(self, run, ranks, outcome):
        said = f"delay at rank {ranks - 1}, ubatch 1, layer 2, phase experts, every step, {self.DELAY_US} us"
        self.assertIn("fault injected: this run is no measurement", outcome.out)
        self.assertIn(f"fault in policy late: {said}\n", outcome.out)
        for name, expected in (("late", said), ("right", "none")):
            self.assertEqual(json.loads((run / name / "summary.json").read_text())["fault"], expected)
            with h5py.File(run / name / "rank-00000.h5") as file:
                self.assertEqual(file.attrs["fault"], expected)
        compared = {one["name"]: one for one in json.loads(dovetail("compare", run, "--format", "json").out)["policies"]}
        self.assertEqual(compared["late"]["status"], "complete")
        self.assertNotIn("fault", compared["right"]["note"])
        self.assertIn(f"no measurement: fault {said}", compared["late"]["note"])
        self.assertLess(compared["late"]["speed_up"], 1)

    def assert_right(self, run, outcome):
        for name in LATE:
            self.assertRegex(outcome.out, rf"policy {name} step_ms .* verdict verified")
            self.assert_verified(run / "right", run / name, "bitwise")


class Delays(DelayCase):
    def test_the_op_is_late_in_every_step_and_results_are_right(self):
        path = self.write(experiment(self.DELAY_US))
        run, outcome = self.run_experiment(2, path, "run", *ALLOW)
        self.assert_late(run, 2)
        self.assert_recorded(run, 2, outcome)
        self.assert_right(run, outcome)
        outcome = dovetail("check", run / "experiment.yaml", "--ranks", 2)  # what the run has recorded of itself can be run again
        self.assertEqual(outcome.code, 0, str(outcome))

    def test_it_must_be_allowed(self):
        path = self.write(experiment(self.DELAY_US))
        for arguments in ([], ["--allow-fault", "stale_kv"]):
            outcome = mpirun(2, "run", path, "--out", self.folder / "refused", *arguments)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertRegex(outcome.err, r"experiment.yaml:13:\d+: fault\[0\].kind: delay makes steps longer in silence; allowed: .*--allow-fault delay")
            self.assertFalse((self.folder / "refused").exists())
        self.assertEqual(dovetail("check", path, "--ranks", 2).code, 0)

    def test_a_place_that_there_is_not(self):
        path = self.write(experiment(self.DELAY_US))
        for fault, expected in (("layer: 4", r"fault.layer: 4, and the model has 4; allowed: 0 to 3 \(delay in policy late\)"),
                                ("layer: 2, phase: mlp", r"fault.phase: mlp, which layer 2 does not have; allowed: attention, "),
                                ("ubatch: 2", r"fault.ubatch: 2, and the policy has 2; allowed: 0 to 1"),
                                ("group: 1", r"fault.group: 1, and the phase has 1")):
            with self.subTest(fault=fault):
                outcome = dovetail("check", path, "--ranks", 2, "--set", f"fault={{kind: delay, rank: 1, policy: late, delay_us: 5, {fault}}}")
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.err, expected)

    def test_a_step_that_has_no_such_op_ends_the_run(self):
        path = self.write(experiment(self.DELAY_US))
        outcome = mpirun(2, "run", path, "--out", self.folder / "vetoed", "--policy", "late", *ALLOW,
                         "--set", "policies.late.thresholds={prefill: 1000, decode: 1000}", "--set",
                         "fault={kind: delay, rank: 1, policy: late, delay_us: 5, ubatch: 1, layer: 2}")
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertIn("the fault has not happened in a step of the schedule sequential: delay at rank 1, ubatch 1, layer 2, phase experts", outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
