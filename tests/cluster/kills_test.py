#!/usr/bin/env python3
"""kill -9 of any one or of all ranks at random moments of runs and sweeps: nothing that was finished is lost, nothing is left over.

kills_test.py [unittest arguments]; DOVETAIL_KILLS is the number of kills (50), DOVETAIL_SEED draws their moments. Skipped unless
DOVETAIL_LONG_TESTS=1.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mpi"))
from cli import BIN, MPIRUN, TOP, CliTest, dovetail, execute, ranks_of  # noqa: E402
from sweep_case import BASE, digests  # noqa: E402

SEED = int(os.environ.get("DOVETAIL_SEED", time.time_ns() % 10**6))
RUNNING_S = 2.5  # of a run's life: start, set-up, iterations


class Kills(CliTest):
    """Half of the kills hit a run of many iterations, half a sweep of three points."""

    EXPERIMENT = BASE
    RANKS = 2
    KILLS = int(os.environ.get("DOVETAIL_KILLS", "50"))

    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"
        self.random = random.Random(SEED)
        self.hits = {"before the files": 0, "in the iterations": 0, "behind the end": 0}

    def command(self, path, *arguments):
        return [*MPIRUN, "-np", str(self.RANKS), BIN, "run", str(path), "--out", str(self.out), *map(str, arguments)]

    def start_and_kill(self, command, longest_s):
        """Returns the last finished iteration that rank 0's file has shown before the kill."""
        child = subprocess.Popen(command, cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # A quarter of the moments count from the start, the others from the first result file on.
        awaits_files = self.random.random() < 0.75
        while awaits_files and not list(self.out.rglob("rank-*.h5")) and child.poll() is None:
            time.sleep(0.005)
        moment = time.monotonic() + self.random.uniform(0, longest_s)
        while (time.monotonic() < moment or len(ranks_of(child)) < self.RANKS) and child.poll() is None:
            time.sleep(0.005)
        pids = ranks_of(child)
        seen = {path: self.finished(path) for path in self.out.rglob("rank-*.h5")}
        # Any rank alone: the first one owns the lock and sweep.json.
        victims = pids if self.random.random() < 0.4 else self.random.sample(pids, min(1, len(pids)))
        if child.poll() is not None:
            self.hits["behind the end"] += 1
        else:
            self.hits["in the iterations" if seen else "before the files"] += 1
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        child.wait(timeout=30)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.02)
        self.assertFalse([pid for pid in pids if Path(f"/proc/{pid}").exists()], f"left over, seed {SEED}")
        return seen

    @staticmethod
    def finished(path):
        """Steps that a file shows while it is written; a file that is being made shows none."""
        try:
            with h5py.File(path) as file:
                return int((file["timing/step_ns"][:] >= 0).sum())
        except (OSError, KeyError):
            return 0

    def assert_whole(self, seen):
        """All files open, all that was finished is there, in order."""
        for path, before in seen.items():
            if before == 0 and not path.exists():
                continue
            try:
                with h5py.File(path) as file:
                    steps = file["timing/step_ns"][:, 0]
                    self.assertIn(file.attrs["status"], (b"running", b"failed", b"complete"))
            except OSError as error:
                self.assertEqual(before, 0, f"{path}: {error}, seed {SEED}")  # killed while it was made
                continue
            done = int((steps >= 0).sum())
            self.assertGreaterEqual(done, before, f"{path}, seed {SEED}")
            self.assertTrue((steps[:done] > 0).all() and (steps[done:] == -1).all(), f"{path}, seed {SEED}")

    def outputs(self):
        """Of the points that sweep.json names, by policy and rank."""
        found = []
        for point in json.loads((self.out / "sweep.json").read_text())["points"]:
            for path in sorted((self.out / point["folder"]).glob("*/rank-*.h5")):
                with h5py.File(path) as file:
                    found.append((point["status"], path.parent.name, path.name, np.asarray(file["output/hidden"][:]).tobytes()))
        return found

    def test_runs(self):
        path = self.write(self.EXPERIMENT)
        arguments = ("--set", "execution.iterations=20000", "--set", "verify.mode=none", "--policy", "sequential")
        for _ in range(self.KILLS - self.KILLS // 2):
            shutil.rmtree(self.out, ignore_errors=True)
            self.assert_whole(self.start_and_kill(self.command(path, *arguments), RUNNING_S))
        print(f"{self.KILLS - self.KILLS // 2} kills of runs, seed {SEED}: {self.hits}", file=sys.stderr)
        self.assertGreater(self.hits["in the iterations"], 0)

    def outputs_of_run(self):
        found = []
        for path in sorted(self.out.glob("*/rank-*.h5")):
            with h5py.File(path) as file:
                found.append((path.parent.name, path.name, file.attrs["status"], np.asarray(file["output/hidden"][:]).tobytes()))
        return found

    def test_resumed_runs(self):
        """Killed up to three times, then it ends as an undisturbed run, and no file that a policy had left is gone."""
        path = self.write(self.EXPERIMENT)
        arguments = ("--set", "execution.iterations=150", "--set", "execution.rounds=1")
        self.assertEqual(execute(self.command(path, *arguments), limit_s=100).code, 0)
        undisturbed = self.outputs_of_run()
        self.assertEqual(len(undisturbed), 2 * self.RANKS)
        resume = [*MPIRUN, "-np", str(self.RANKS), BIN, "run", str(path), *arguments, "--resume", str(self.out)]
        kills = self.KILLS // 2
        while kills > 0:
            shutil.rmtree(self.out)
            for _ in range(min(kills, self.random.randint(1, 3))):
                begun = (self.out / "experiment.yaml").exists()
                seen = self.start_and_kill(resume if begun else self.command(path, *arguments), RUNNING_S)
                self.assert_whole({path: steps for path, steps in seen.items() if path.exists()})  # not those that have just moved
                kills -= 1
            left = {path.read_bytes() for path in self.out.rglob("rank-*.h5")}
            begun = (self.out / "experiment.yaml").exists()
            outcome = execute(resume if begun else self.command(path, *arguments), limit_s=100)
            self.assertEqual(outcome.code, 0, str(outcome) + f" seed {SEED}")
            self.assertEqual(self.outputs_of_run(), undisturbed, f"seed {SEED}")
            self.assertLessEqual(left, {path.read_bytes() for path in self.out.rglob("rank-*.h5")}, f"a file is gone, seed {SEED}")
            self.assertEqual(dovetail("compare", self.out).code, 0)

    def test_sweeps(self):
        path = self.write(self.EXPERIMENT + "sweep:\n  workload.seed: [1, 2, 3]\n", "sweep.yaml")
        arguments = ("--set", "execution.iterations=150", "--set", "verify.mode=none")
        self.assertEqual(execute(self.command(path, *arguments), limit_s=300).code, 0)
        undisturbed = self.outputs()
        self.assertEqual(len(undisturbed), 3 * 2 * self.RANKS)
        kills = self.KILLS // 2
        while kills > 0:
            shutil.rmtree(self.out)
            # Some sweeps are killed several times before they may end.
            for _ in range(min(kills, self.random.randint(1, 4))):
                complete = self.complete_points()
                self.assert_whole(self.start_and_kill(self.command(path, *arguments), RUNNING_S))
                kills -= 1
                for folder, files in complete.items():
                    self.assertEqual(digests(folder), files, f"{folder} was overwritten, seed {SEED}")
            complete = self.complete_points()
            outcome = execute(self.command(path, *arguments), limit_s=300)
            self.assertEqual(outcome.code, 0, str(outcome) + f" seed {SEED}")
            for folder, files in complete.items():
                self.assertEqual(digests(folder), files, f"{folder} was overwritten, seed {SEED}")
            self.assertEqual(self.outputs(), undisturbed, f"seed {SEED}")
            self.assertEqual(dovetail("compare", self.out).code, 0)
        print(f"{self.KILLS // 2} kills of sweeps, seed {SEED}: {self.hits}", file=sys.stderr)

    def complete_points(self):
        file = self.out / "sweep.json"
        points = json.loads(file.read_text())["points"] if file.exists() else []
        return {self.out / point["folder"]: digests(self.out / point["folder"]) for point in points if point["status"] == "complete"}


if __name__ == "__main__":
    if os.environ.get("DOVETAIL_LONG_TESTS") != "1":
        print("SKIPPED: kills take minutes; DOVETAIL_LONG_TESTS=1 asks for them")
        sys.exit(0)
    unittest.main()
