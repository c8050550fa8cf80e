#!/usr/bin/env python3
"""Whole runs on GPUs against what transformers computes on the fixtures.

gpu_anchor_test.py [unittest arguments]
"""
import unittest

from gpu_cases import RANKS, GpuTest

from anchor import FIXTURES, AnchorTest

GRAPHS = """
  - {name: full, schedule: sequential, graph: full, exchange: padded}
  - {name: pieces, schedule: dual_batch, ubatches: 2, graph: piecewise, exchange: ragged}
  - {name: dual_full, schedule: dual_batch, ubatches: 2, graph: full, exchange: gather, hand_off: inline}
"""


class GpuAnchor(AnchorTest, GpuTest):
    DEVICE = "cuda"
    PAGE_SIZE = 16
    MOST_RANKS = RANKS
    JOBS = 6

    def test_float32(self):
        for phase in ("prefill", "mixed", "decode"):
            self.check_runs(phase)

    def test_bfloat16_in_graphs(self):
        self.POLICIES = GRAPHS.lstrip("\n")
        kernels = {name: FIXTURES[name] for name in ("qwen3-moe-tiny", "tied-dense-sharded", "mixtral-linear")}  # sizes that the kernels take
        for phase in ("prefill", "mixed", "decode"):
            self.check_runs(phase, "bfloat16", kernels)

    def test_faults_of_all_policies_are_noticed(self):
        self.check_that_common_faults_are_noticed()


if __name__ == "__main__":
    unittest.main(verbosity=2)
