#!/usr/bin/env python3
"""Rounds on GPUs: engines of all policies stay alive beside each other where there is memory, and are made anew where there is not; steps have the bits of
engines that have the GPU for themselves. A failure amid engines that are alive ends the run.

gpu_rounds_test.py [unittest arguments]; tests/mpi/gpu_texts_test.py runs the same experiment on CPU ranks.
"""
import subprocess
import sys
import unittest

import h5py
import numpy as np

from gpu_cases import RANKS, TINY, GpuTest
from gpu_endings_test import FILLER, LEFT_BYTES

EXPERIMENT = """
experiment: rounds
model: %(model)s
parallel: {expert_parallel: %(ranks)d}
workload: {%(workload)s, variants: 2, seed: 5}
execution: {device: cuda, dtype: bfloat16, warmup: 1, iterations: 12, rounds: %(rounds)d, round_seed: 3, timeout_s: 20}
policies:
  - {name: eager, schedule: sequential, exchange: gather}
  - {name: pieces, schedule: dual_batch, ubatches: 2, exchange: ragged, graph: piecewise}
  - {name: full, schedule: dual_batch, ubatches: 2, exchange: symmetric, graph: full}
  - {name: hard, schedule: dual_batch, ubatches: 2, exchange: padded, graph: full, hand_off: inline, sm_partition: hard}
verify: {baseline: eager, mode: tolerance, routing: replay}
record: {outputs: [hidden, logits, routing], timing: ops, profiled_iterations: 3}
"""
WORKLOADS = {
    "prefill": "phase: prefill, requests: {lengths: [37, 1, 18, 130, 64]}",
    "decode": "phase: decode, requests: {context_lengths: [5, 40, 1, 300, 33, 8, 129]}, steps: 2",  # with replayed experts in a second KV cache
}
POLICIES = {"eager": "none", "pieces": "piecewise", "full": "full", "hard": "full"}
WORKSPACES = 2 * (32 << 20)  # of cuBLAS: what an engine's main thread holds at least


def text_of(workload, rounds, ranks=RANKS):
    return EXPERIMENT % {"model": TINY, "ranks": ranks, "workload": WORKLOADS[workload], "rounds": rounds}


class Rounds:
    """What holds of these runs wherever their ranks are."""

    def engines(self, policy):
        """How many each rank had, one after the other."""
        found = []
        for path in self.files(policy):
            with h5py.File(path) as file:
                found.append(int(file["timing"].attrs["engines"]))
        return found

    def check_bits(self, alone, rounds):
        """Of each step of both runs: outputs, keys and values, routing."""
        for policy in POLICIES:
            for one, other in zip(self.files(alone / policy), self.files(rounds / policy), strict=True):
                with h5py.File(one) as wanted, h5py.File(other) as found:
                    self.assertEqual(found["timing/round"][:].max(), 2)
                    for table in ("timed", "profiled", "poisoned"):
                        rows = found[f"hash/{table}"][:]
                        self.assertTrue((rows >= 0).all(), f"{policy} {table}")
                        np.testing.assert_array_equal(rows, wanted[f"hash/{table}"][:], f"{policy} {table}")


class GpuKeptEngines(Rounds, GpuTest):
    def captures(self, policy):
        found = []
        for path in self.files(policy):
            with h5py.File(path) as file:
                found.append(int(file["graph/captures"][()]))
        return found

    def test_they_compute_as_alone(self):
        for workload in WORKLOADS:
            with self.subTest(workload):
                alone, _ = self.run_on(RANKS, text_of(workload, 1), f"{workload}-alone")
                rounds, outcome = self.run_on(RANKS, text_of(workload, 3), f"{workload}-rounds")
                self.assertEqual(outcome.out.count("verdict verified"), 3, str(outcome))
                self.check_bits(alone, rounds)
                for policy, graph in POLICIES.items():
                    self.assert_steps(rounds / policy, graph, ubatched=policy != "eager")
                    self.assertEqual(self.engines(rounds / policy), [1] * RANKS, policy)
                    self.assertEqual(self.captures(rounds / policy), self.captures(alone / policy), f"{policy}: no graph is captured again")
                    for one, other in zip(self.files(alone / policy), self.files(rounds / policy)):
                        peaks = [self.memory(path, "peak_allocated_bytes") for path in (one, other)]
                        self.assertLess(abs(peaks[1] - peaks[0]), WORKSPACES, f"{policy}: {peaks}, what others hold is not in it")


class GpuFreedEngines(Rounds, GpuTest):
    """The GPU of rank 1 has less memory left than what is to be left free on it: 1/32 of an H200 are 4.4 GiB."""
    NEEDED = 2

    def test_they_compute_as_alone(self):
        filler = subprocess.Popen([sys.executable, "-c", FILLER, "1", str(LEFT_BYTES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(filler.wait, timeout=30)
        self.addCleanup(filler.stdin.close)
        told = filler.stdout.readline()
        self.assertIn("are left", told, f"the GPU could not be filled: {filler.stderr.read() if not told else told}")
        alone, _ = self.run_on(2, text_of("decode", 1, ranks=2), "alone")
        rounds, _ = self.run_on(2, text_of("decode", 3, ranks=2), "rounds")
        self.check_bits(alone, rounds)
        for policy in POLICIES:
            self.assertEqual(self.engines(alone / policy), [1, 1], policy)
            self.assertEqual(self.engines(rounds / policy), [4, 4], f"{policy}: for each round, and for what follows the last")


class GpuEndOfKeptEngines(GpuTest):
    """A step of the third round fails, where engines of other policies are alive."""
    NEEDED = 2

    def fail(self, kind, policy):
        text = text_of("prefill", 3, ranks=2).replace("timeout_s: 20", "timeout_s: 6")
        fault = f"fault={{kind: {kind}, policy: {policy}, rank: 1, ubatch: 1, layer: 1, phase: experts, iteration: 10}}"
        run, outcome = self.run_on(2, text, f"{kind}-{policy}", "--set", fault, code=3)
        self.assertLess(outcome.seconds, 60, str(outcome))
        self.assertNotIn("illegal memory access", outcome.err)
        for name in POLICIES:
            for path in self.files(run / name):
                with h5py.File(path) as file:
                    self.assertIn(bytes(file.attrs["status"]), (b"running", b"failed"), path)
                    self.assertTrue((file["timing/step_ns"][:8] > 0).all(), f"{path}: two rounds were finished")
        return run, outcome

    def test_an_exception(self):
        for policy in ("pieces", "full"):
            with self.subTest(policy):
                run, outcome = self.fail("exception", policy)
                self.assertIn(f"policy {policy}: rank 1, ubatch 1, layer 1, phase experts: injected fault", outcome.err)
                for name in POLICIES:
                    with h5py.File(self.files(run / name)[1]) as file:
                        self.assertEqual(bytes(file.attrs["status"]), b"failed", name)
                        self.assertEqual(bytes(file.attrs["failure"]).startswith(b"ended with"), name != policy, name)

    def test_a_rank_that_hangs(self):
        for policy in ("pieces", "full"):
            with self.subTest(policy):
                _, outcome = self.fail("hang", policy)
                self.assertRegex(outcome.err, "rank 1 is late: it is stuck since .* in ubatch 1, layer 1, phase experts")


if __name__ == "__main__":
    unittest.main(verbosity=2)
