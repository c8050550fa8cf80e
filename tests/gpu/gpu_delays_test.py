#!/usr/bin/env python3
"""The injected fault `delay` on GPUs: its op is longer in every step, eager, in captured pieces and in whole graphs, and results stay right.

gpu_delays_test.py [unittest arguments]
"""
import unittest

import h5py
import numpy as np

from gpu_cases import GRAPH_MODES, LIMIT_S, RANKS, GpuTest

import delays_test  # of tests/mpi, which gpu_cases has put on the path
from cli import mpirun

RESOLUTION_US = 5  # of time stamps on a GPU


class GpuDelays(GpuTest, delays_test.DelayCase):
    DELAY_US = 20_000

    def test_the_op_is_late_in_every_step_and_results_are_right(self):
        for graph in GRAPH_MODES:
            with self.subTest(graph=graph):
                path = self.write(delays_test.experiment(self.DELAY_US, RANKS, "cuda", "bfloat16", f", graph: {graph}, exchange: padded"))
                run = self.folder / graph
                outcome = mpirun(RANKS, "run", path, "--out", run, *delays_test.ALLOW, limit_s=LIMIT_S)
                self.assertEqual(outcome.code, 0, str(outcome))
                with h5py.File(run / "late" / "rank-00000.h5") as file:
                    np.testing.assert_array_equal(file["timing/decision"][..., 1], GRAPH_MODES.index(graph))
                self.assert_late(run, RANKS, RESOLUTION_US)
                self.assert_recorded(run, RANKS, outcome)
                self.assert_right(run, outcome)


if __name__ == "__main__":
    unittest.main(verbosity=2)
