#!/usr/bin/env python3
"""Replayed graphs on two GPUs, or one, for long: kill -9 at random moments loses nothing that was finished, and a hundred thousand steps take no more memory.

gpu_endurance_test.py [unittest arguments]; DOVETAIL_KILLS is the number of kills (10). Skipped unless DOVETAIL_LONG_TESTS=1.
"""
import os
import subprocess
import sys
import unittest
from pathlib import Path

from gpu_cases import RANKS, TINY, GpuTest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
import growth_test  # noqa: E402
import kills_test  # noqa: E402

LONG = os.environ.get("DOVETAIL_LONG_TESTS") == "1"
EXPERIMENT = """
experiment: endurance
model: %(model)s
parallel: {expert_parallel: %(ranks)d}
workload: {phase: decode, requests: {count: 4, context_length: 5}, seed: 9}
execution: {device: cuda, dtype: bfloat16, %(iterations)s, rounds: 1, timeout_s: 20, graph: full, exchange: %(exchange)s}
policies: %(policies)s
verify: %(verify)s
record: {outputs: [hidden], timing: steps}
"""


class Endurance(GpuTest):
    RANKS = RANKS

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not LONG:
            raise unittest.SkipTest("nothing to run: takes minutes; DOVETAIL_LONG_TESTS=1 asks for it")


class GpuKills(Endurance, kills_test.Kills):
    KILLS = int(os.environ.get("DOVETAIL_KILLS", "10"))
    EXPERIMENT = EXPERIMENT % {"model": TINY, "ranks": RANKS, "iterations": "warmup: 0, iterations: 2", "exchange": "gather", "verify": "{baseline: sequential, mode: tolerance}",
                               "policies": "[{name: sequential}, {name: dual_batch, ubatches: 2}]"}


class GpuGrowth(Endurance, growth_test.Growth):
    def memory_of(self, launcher):
        """MiB of each rank, then of each card that they see."""
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        of = ["-i", visible] if visible else []
        cards = subprocess.run(["nvidia-smi", *of, "--query-gpu=memory.used", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True)
        return super().memory_of(launcher) + [float(line) for line in cards.stdout.split()]

    @property
    def EXPERIMENT(self):
        return EXPERIMENT % {"model": TINY.replace("}}", "}, layers: [0, 1]}"), "ranks": RANKS, "iterations": "warmup: 0, iterations: %d", "exchange": self.exchange,
                             "verify": "none", "policies": "[{name: dual_batch, ubatches: 2}]"}

    exchange = "gather"


class GpuGrowthOfSymmetric(GpuGrowth):
    exchange = "symmetric"


if __name__ == "__main__":
    unittest.main(verbosity=2)
