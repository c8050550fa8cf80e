"""What the tests on clusters share: a small experiment, and what its files must hold however a run ends."""
import os
import sys
import time
import unittest
from pathlib import Path

import h5py

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mpi"))
from cli import TOP, CliTest  # noqa: E402

CHECKPOINT = TOP / "tests/fixtures/qwen3-moe-tiny"
BASE = """
experiment: small
model: {{architecture: qwen3_moe, config: {checkpoint}/config.json, weights: {{checkpoint: {checkpoint}}}}}
parallel: {{expert_parallel: 2}}
workload: {{phase: prefill, requests: {{count: 2, length: 12}}, seed: 9}}
execution: {{warmup: 0, iterations: {iterations}, timeout_s: 20}}
policies:
  - {{name: sequential}}
  - {{name: dual_batch, ubatches: 2}}
verify: {{baseline: sequential, mode: tolerance}}
record: {{outputs: [hidden, logits]}}
"""


def attribute(file, name):
    value = file.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


class ClusterCase(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def told(self):
        """What the run has said, for messages."""
        return ""

    def experiment(self, more="", iterations=2, checkpoint=CHECKPOINT):
        return self.write(BASE.format(checkpoint=checkpoint, iterations=iterations) + more)

    def first_files(self):
        """Of rank 0, of the policies that have begun: in rounds, whose order is drawn, any of them may be the first."""
        return sorted(self.out.glob("*/rank-00000.h5"))

    def most_steps(self):
        return max((self.finished_steps(file) for file in self.first_files()), default=0)

    def wait_for_steps(self):
        """Until rank 0 has timed steps on disk."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.most_steps() > 3:
                return
            time.sleep(0.3)
        self.fail("no step was recorded:\n" + self.told())

    def finished_steps(self, path):
        try:
            with h5py.File(path) as file:
                return int((file["timing/step_ns"][:] >= 0).sum())
        except (OSError, KeyError):
            return 0

    def assert_all_files_open(self):
        files = sorted(self.out.glob("*/rank-*.h5"))
        self.assertGreaterEqual(len(files), 2)
        for path in files:
            with h5py.File(path) as file:
                self.assertEqual(attribute(file, "world_size"), 2)


def main(lacking):
    """Runs the tests where somebody asks for them and nothing lacks; CTest knows the line that says why not."""
    if os.environ.get("DOVETAIL_LONG_TESTS") != "1":
        lacking = "DOVETAIL_LONG_TESTS=1"
    if lacking:
        print(f"SKIPPED: needs {lacking}")
        sys.exit(0)
    unittest.main()
