"""What the tests of the whole program on GPUs share. One GPU a rank; without GPUs every class says "nothing to run" and shows as skipped.

cli.py (tests/mpi) has the environment; DOVETAIL_GPUS lowers the number of GPUs that are used.
"""
import json
import os
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mpi"))

import h5py  # noqa: E402
import numpy as np  # noqa: E402

from cli import BIN, FP32_BOUND, MPIRUN, RANK, TOP, CliTest, dovetail, exchanges_on, execute, lists, mpirun, with_other_policies  # noqa: E402, F401

GRAPH_MODES = ["none", "piecewise", "full"]  # their numbers in /timing/decision
TINY = "{architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}"
LIMIT_S = 120


INFO = json.loads(dovetail("info", "--format", "json").out)
BUILT_WITH_CUDA = INFO["versions"]["cuda"] != "built without CUDA"
GPUS = sum(name.startswith("cuda:") for name in INFO["devices"])
GPUS = min(GPUS, int(os.environ.get("DOVETAIL_GPUS", GPUS)))
SHARES_GPU = GPUS > 0 and bool(os.environ.get("DOVETAIL_SHARE_GPU"))  # two ranks have one together, and believe to be on two hosts (own_host.sh)
PLACES = 2 if SHARES_GPU else GPUS  # ranks that can have a GPU
RANKS = min(PLACES, 2)  # of most tests
REACHING = [] if SHARES_GPU else ["symmetric"]  # exchanges that need GPUs of one host, which reach each other's memory


def require_gpus(needed, may_share=True):
    if PLACES < needed:
        raise unittest.SkipTest(f"nothing to run: {GPUS} GPUs, needed: {needed}")
    if SHARES_GPU and not may_share:
        raise unittest.SkipTest("nothing to run: ranks share a GPU")


class GpuTest(CliTest):
    NEEDED = 1  # GPUs
    MAY_SHARE = True  # ranks may have one together

    @classmethod
    def setUpClass(cls):
        require_gpus(cls.NEEDED, cls.MAY_SHARE)

    def run_on(self, ranks, text, name, *arguments, code=0):
        """Runs an experiment's text, or a file of experiments/; returns its folder and what it said."""
        path = self.write(text, f"{name}.yaml") if "\n" in text else text
        outcome = mpirun(ranks, "run", path, "--out", self.folder / name, *arguments, limit_s=LIMIT_S)
        self.assertEqual(outcome.code, code, f"{text}\n{arguments}\n{outcome}")
        return self.folder / name, outcome

    def files(self, policy):
        paths = sorted(Path(policy).glob("rank-*.h5"))
        self.assertTrue(paths, f"{policy} has no rank files")
        return paths

    def attributes(self, policy, name):
        """Of the rank files, as texts."""
        found = []
        for path in self.files(policy):
            with h5py.File(path) as file:
                found.append(str(file.attrs[name]))
        return found

    def assert_steps(self, policy, graph, ubatched):
        """All timed steps of all ranks ran in that graph mode, on a GPU, in ubatches or not."""
        for path in self.files(policy):
            with h5py.File(path) as file:
                self.assertIn("cuda", str(file.attrs["device"]).lower(), path)
                decision = file["timing/decision"][:]
                np.testing.assert_array_equal(decision[..., 0], int(ubatched), f"{path}: ubatched")
                np.testing.assert_array_equal(decision[..., 1], GRAPH_MODES.index(graph), f"{path}: graph mode")

    def memory(self, path, name):
        """Of a rank file, bytes."""
        with h5py.File(path) as file:
            value = int(np.ravel(file[f"memory/{name}"][()])[0])
        self.assertGreater(value, 0)
        return value

    def verify(self, baseline, policy, mode, code=0):
        """The report of `dovetail verify`, which must end with `code`."""
        outcome = dovetail("verify", baseline, policy, "--mode", mode, "--format", "json")
        self.assertEqual(outcome.code, code, f"{baseline} {policy} {mode}\n{outcome}")
        report = json.loads(outcome.out)
        if code == 0:
            self.assertGreaterEqual(len(report["tensors"]), 2)
        return report

    def worst_error(self, run, name):
        """Of a policy that its run has verified."""
        verification = json.loads((run / name / "summary.json").read_text())["verification"]
        self.assertEqual(verification["verdict"], "verified", f"{name}: {verification}")
        return max(float(tensor["error"]) for tensor in verification["tensors"])
