#!/usr/bin/env python3
"""Memory of ranks over a hundred thousand steps: with DOVETAIL_LONG_TESTS=1 (some 10 minutes), else over some thousands.

growth_test.py [unittest arguments]; cli.py has the environment.
"""
import contextlib
import os
import subprocess
import time
import unittest
from pathlib import Path

import h5py

from cli import BIN, MPIRUN, TOP, CliTest
from watchdog_test import ranks_of

STEPS = 100_000 if os.environ.get("DOVETAIL_LONG_TESTS") == "1" else 3_000
EXPERIMENT = """
experiment: growth
model: {architecture: qwen3_moe, config: tests/fixtures/qwen3-moe-tiny/config.json, weights: {seed: 1}, layers: [0, 1]}
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: 2, length: 2}, seed: 9}
execution: {warmup: 0, iterations: %d, rounds: 1}
policies: [{name: dual_batch, ubatches: 2}]
verify: none
record: {outputs: [hidden], timing: steps}
"""


def resident_mebibytes(pid):
    """Of a process, without the pages that it shares, such as those of files."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE") / 2**20


def finished(path):
    """Iterations that a rank has recorded."""
    try:
        with h5py.File(path) as file:
            return int((file["timing/step_ns"][:, 0] > 0).sum())
    except (OSError, KeyError):
        return 0


class Growth(CliTest):
    EXPERIMENT = EXPERIMENT
    RANKS = 2

    def memory_of(self, launcher):
        """MiB of each rank."""
        return [resident_mebibytes(pid) for pid in ranks_of(launcher)]

    def test_memory_does_not_grow_with_steps(self):
        run = self.folder / "run"
        command = [*MPIRUN, "-np", str(self.RANKS), BIN, "run", str(self.write(self.EXPERIMENT % STEPS)), "--out", str(run)]
        began = time.monotonic()
        with subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as launcher:
            try:
                seen = {}  # steps -> MiB
                while launcher.poll() is None:
                    steps = finished(run / "dual_batch/rank-00000.h5")
                    with contextlib.suppress(FileNotFoundError):  # a rank that has just ended
                        memory = self.memory_of(launcher)
                        if STEPS // 10 <= steps < STEPS - STEPS // 50 and len(memory) >= self.RANKS:  # not what ends the run
                            seen[steps] = memory
                    time.sleep(0.02 if STEPS < 10_000 else 0.5)
                out, _ = launcher.communicate(timeout=300)
            finally:
                launcher.kill()
        self.assertEqual(launcher.returncode, 0, out)
        self.assertTrue(seen, "ended too soon")
        first, last = min(seen), max(seen)
        self.assertLess(first, STEPS // 2)
        self.assertGreater(last, STEPS // 2)
        before, after = seen[first], seen[last]
        print(", ".join(f"{steps} steps: {' and '.join(f'{one:.1f}' for one in seen[steps])} MiB" for steps in (first, last)),
              f"in {time.monotonic() - began:.0f} s")
        self.assertEqual(len(before), len(after))
        for early, late in zip(before, after):
            self.assertLess(late - early, 4)  # MiB: of a hundred thousand steps 47 bytes each


if __name__ == "__main__":
    unittest.main()
