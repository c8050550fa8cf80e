#!/usr/bin/env python3
"""Data faults on GPUs: caught in eager steps, in captured pieces and in whole graphs; replays of other iterations are untouched.

gpu_faults_test.py [unittest arguments]
"""
import re
import unittest

import h5py
import numpy as np

from gpu_cases import require_gpus

import faults_test  # of tests/mpi, which gpu_cases has put on the path
from fault_cases import EARLY, MIDDLE, WARMUP, cases, endings, first_wrong, verification, waits

GRAPHS = {"none": "ragged", "piecewise": "ragged", "full": "padded"}


class GpuFaults(faults_test.Faulty):
    @classmethod
    def setUpClass(cls):
        require_gpus(2)

    def on_gpus(self, graph, exchange=None):
        return {"device": "cuda", "dtype": "bfloat16", "policy": f", graph: {graph}, exchange: {exchange or GRAPHS[graph]}"}

    def assert_graph(self, run, policy, graph):
        with h5py.File(run / policy / "rank-00001.h5") as file:
            np.testing.assert_array_equal(file["timing/decision"][..., 1], list(GRAPHS).index(graph), f"{policy}: graph mode")

    def test_float32(self):
        self.assert_all_caught(cases(MIDDLE), device="cuda")

    def test_bfloat16_with_24_layers(self):
        for graph in GRAPHS:
            planted = cases(EARLY)
            run, _ = self.assert_all_caught(planted, name=graph, **self.on_gpus(graph))
            for name in planted:
                self.assert_graph(run, name, graph)

    def test_replays_of_other_iterations_are_untouched(self):
        for graph in GRAPHS:
            planted = cases(EARLY)
            run, _ = self.plant(planted, name=graph, code=None, iteration=WARMUP, **self.on_gpus(graph))
            for name in planted:
                self.assert_graph(run, name, graph)
                for rank in (0, 1):
                    with h5py.File(run / name / f"rank-0000{rank}.h5") as a, h5py.File(run / "right" / f"rank-0000{rank}.h5") as b:
                        for output in ("hidden", "logits", f"layer_{EARLY}"):
                            np.testing.assert_array_equal(a[f"output/{output}"][:], b[f"output/{output}"][:], f"{graph}, {name}: {output}")

    def test_a_wait_that_is_skipped(self):
        for graph in GRAPHS:
            for name, fault in waits(EARLY).items():
                with self.subTest(graph=graph, fault=name):
                    run, _ = self.plant({name: fault}, name=f"{graph}-{name}", **self.on_gpus(graph, "padded"))
                    self.assert_graph(run, name, graph)
                    self.assertEqual(verification(run, "right")["verdict"], "verified")
                    # An attention begins with the sums of the layer before.
                    layer = EARLY - 1 if name == "no_wait_attention" else EARLY
                    self.assertEqual(first_wrong(verification(run, name))["name"], f"layer_{layer}")


class GpuEndedInAGroup(faults_test.EndedInAGroup):
    """As on the CPU, over `symmetric`, whose kernels wait for the peers. A thread that stalls has enqueued what came before."""
    LIMIT_S = 45
    ON_GPUS = {"device": "cuda", "dtype": "bfloat16", "policy": ", exchange: symmetric", "timeout_s": 4}

    @classmethod
    def setUpClass(cls):
        require_gpus(2, may_share=False)

    def end(self, fault, code, **options):
        return super().end(fault, code, **{**self.ON_GPUS, **options})

    def test_a_stalled_rank(self):
        for fault, place in endings("hang"):
            with self.subTest(place=place):
                err, report = self.end(fault, 3)
                self.assertRegex(err, rf"rank 1 is late: it is stuck since \d\.\d s in {place} ")
                # Whichever bound passes first: of rank 0's kernel, of its host, of a thread of rank 1 that waits for the stalled one, of its main thread.
                held = r"; the baton is held for op \d+ \(\w+, layer \d, ubatch \d, group [01]\)"
                self.assertRegex(err, r"rank \d, ubatch \d, layer \d, phase (dispatch|combine), group [01]: nothing came from ep rank \d within 4000 ms|"
                                      r"the step did not end within 4000 ms; \w+ lane: between |"
                                      r"no progress for 4000 ms( while waiting for op \d+ \([^()]*\))?" + held)
                self.assertNotIn("illegal memory access", err)
                self.assertNotIn("after a failed step: ", err)  # what follows is an error of the GPU
                self.assertEqual(report["late"][0]["op"]["group"], int(place[-1]))

    def test_an_exception_where_a_graph_is_made(self):
        for fault, place in endings("exception"):
            with self.subTest(place=place):
                err, _ = self.end(re.sub(r"iteration: \d", "iteration: 0", fault), 3, policy=", exchange: symmetric, graph: full")
                self.assertRegex(err, rf"rank 1, {place}: .*injected fault")


if __name__ == "__main__":
    unittest.main(verbosity=2)
