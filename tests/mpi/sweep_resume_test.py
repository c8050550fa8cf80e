#!/usr/bin/env python3
"""Sweeps that go on after an end in the middle, and what they do not measure again.

sweep_resume_test.py [unittest arguments]; cli.py has the environment.
"""
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unittest
from pathlib import Path

import h5py

from cli import BIN, MPIRUN, TOP, dovetail, execute
from sweep_case import SweepTest, digests


class Resume(SweepTest):
    LONG = "  workload.seed: [1, 2, 3]\n"
    MANY = ("--set", "execution.iterations=300", "--set", "verify.mode=none", "--policy", "sequential")

    def start(self, point):
        """Starts a sweep and returns when `point` has finished some iterations."""
        path = self.file(self.LONG)
        child = subprocess.Popen(self.command(path, *self.MANY), cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        file = self.out / point / "sequential" / "rank-00001.h5"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and child.poll() is None and not self.has_iterations(file):
            time.sleep(0.02)
        self.assertIsNone(child.poll(), "the sweep ended too early")
        return path, child

    @staticmethod
    def has_iterations(path):
        try:
            with h5py.File(path) as file:
                return file["timing/step_ns"][2, 0] > 0
        except OSError:
            return False

    def go_on_command(self, out):
        """The command that the outputs propose, without its mpirun."""
        line = re.search(rf"(?m)^1 of 3 points are complete; to go on: mpirun -np 2 ({BIN} run .+)$", out)
        self.assertIsNotNone(line, out)
        return shlex.split(line[1])

    def finish(self, path, command=None):
        """Runs the rest, as `path` or by a command; what was finished must not change."""
        done = {point["folder"]: digests(self.out / point["folder"]) for point in self.read()["points"] if point["status"] == "complete"}
        left = {name: digests(self.out / name) for name in self.folders()}
        self.assertGreaterEqual(len(done), 1)
        outcome = execute([*MPIRUN, "-np", "2", *command], limit_s=120) if command else self.run_sweep(path, *self.MANY)
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertEqual(self.statuses(), ["complete"] * 3)
        # A signal may come when a point is complete and sweep.json does not say so yet.
        complete = int(re.search(rf"(?m)^(\d) of 3 points are complete in {self.out}(?:; going on with point \1)?$", outcome.out)[1])
        self.assertGreaterEqual(complete, len(done))
        for name, files in {**left, **done}.items():
            self.assertEqual(digests(self.out / name), files, f"{name} was changed")
        for number in range(3):
            self.assertEqual(f"point {number} of the sweep" in outcome.out, number >= complete, str(outcome))
        return done

    @staticmethod
    def ranks_of(mpirun):
        children = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == mpirun.pid:
                children.append(int(path.parent.name))
        return children

    def test_killed_ranks(self):
        path, child = self.start("point-0001")
        ranks = self.ranks_of(child)
        self.assertEqual(len(ranks), 2)
        for rank in ranks:
            os.kill(rank, signal.SIGKILL)
        child.communicate(timeout=30)
        self.assertNotEqual(child.returncode, 0)
        self.assertEqual(self.statuses(), ["complete", "running", "pending"])
        self.finish(path, self.go_on_command(dovetail("compare", self.out).out))
        self.assertEqual(self.folders(), ["point-0000", "point-0001", "point-0001.retry1", "point-0002"])
        self.assertEqual(self.read()["points"][1]["folder"], "point-0001.retry1")
        again = self.run_sweep(path, *self.MANY)  # nothing is left to do
        self.assertNotIn("of the sweep (", again.out)
        self.assertIn(f"3 of 3 points are complete in {self.out}\n", again.out)
        self.assertEqual(len(self.folders()), 4)

    def test_sigterm(self):
        path, child = self.start("point-0001")
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
        self.assertNotEqual(child.returncode, 0)
        self.assertRegex(err, r"(?m)^dovetail\[rank 0\]: .*(interrupted by SIGTERM, which mpirun sends at Ctrl-C, too|rank 1 was interrupted by a signal)$")
        command = self.go_on_command(err.replace("dovetail[rank 0]: ", ""))
        self.assertEqual(self.statuses()[0], "complete")
        self.assertNotEqual(self.statuses()[1], "complete")
        self.finish(path, command)

    def test_sigusr1_ends_after_the_iteration_and_the_point_runs_again(self):
        path, child = self.start("point-0001")
        child.send_signal(signal.SIGUSR1)
        out, err = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 5, out + err)
        self.assertEqual(self.statuses(), ["complete", "incomplete", "pending"])
        command = self.go_on_command(out)
        told = dovetail("compare", self.out)
        self.assertEqual(self.go_on_command(told.out), command, str(told))
        self.assertRegex(self.read()["points"][1]["problem"], r"sequential: .*asked to stop after \d+ of 300 timed iterations")
        done = self.finish(path, command)
        self.assertEqual(list(done), ["point-0000"])
        self.assertNotIn("to go on", dovetail("compare", self.out).out)

    def test_a_second_start_is_refused_while_the_first_one_runs(self):
        path, child = self.start("point-0000")
        second = self.run_sweep(path, *self.MANY, code=2)
        self.assertRegex(second.err, rf"{self.out}: another run is writing into this folder \(process \d+ on host \S+\); wait for its end, or name another folder")
        self.assertEqual(second.err.count("another run"), 1)
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0, out + err)
        self.assertEqual(self.statuses(), ["complete"] * 3)
        self.assertEqual(self.folders(), ["point-0000", "point-0001", "point-0002"])
        self.assertEqual([str(lock) for lock in self.out.rglob(".lock")], [])

    def test_of_two_runs_at_once_one_runs(self):
        command = self.command(self.file(), "--set", "execution.iterations=100", "--set", "verify.mode=none", "--policy", "sequential")
        children = [subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
        ends = sorted((child.communicate(timeout=60)[1], child.returncode) for child in children)
        self.assertEqual([code for _, code in ends], [0, 2], str(ends))
        self.assertRegex(ends[1][0], f"{self.out}: (another run is writing into this folder|the result folder is not empty)")
        self.assertEqual(self.folders(), ["sequential"])
        self.assertFalse((self.out / ".lock").exists())

    def test_what_ended_early_is_complete_and_not_measured_again(self):
        """Intervals of 100 %: all points end before their 60 iterations."""
        path = self.file("  workload.seed: [1, 2]\n")
        precise = ("--set", "execution.iterations=60", "--set", "execution.precision=1.0")
        self.run_sweep(path, *precise)
        self.assertEqual(self.statuses(), ["complete"] * 2, self.read())
        counts = [row["step_ns"]["count"] for point in self.read()["points"] for row in point["policies"]]
        self.assertTrue(all(0 < count < 60 for count in counts), counts)
        before = {name: digests(self.out / name) for name in self.folders()}
        again = self.run_sweep(path, *precise)
        self.assertIn(f"2 of 2 points are complete in {self.out}\n", again.out)
        self.assertEqual({name: digests(self.out / name) for name in self.folders()}, before)
        self.check_frame(counts)

    def check_frame(self, counts):
        if importlib.util.find_spec("pandas") is None:
            return  # a frame is what it needs; dovetail_results reads what has been checked above
        sys.path.insert(0, str(TOP / "launch"))
        import dovetail_results
        frame = dovetail_results.load(self.out).policies()
        self.assertEqual(frame[["point", "policy"]].values.tolist(), [[point, name] for point in (0, 1) for name in ("sequential", "dual_batch")])
        self.assertEqual(frame["ended_early"].tolist(), [True] * 4)
        self.assertEqual(frame["step_ns.count"].tolist(), counts)

    def test_a_damaged_point_runs_again(self):
        path = self.file(self.LONG)
        self.run_sweep(path)
        (self.out / "point-0000" / "dual_batch" / "summary.json").write_text("{")
        (self.out / "point-0002" / "experiment.yaml").write_text("experiment: another\n")
        outcome = self.run_sweep(path)
        self.assertNotIn("point 1 of the sweep", outcome.out)
        self.assertEqual([point["folder"] for point in self.read()["points"]], ["point-0000.retry1", "point-0001", "point-0002.retry1"])
        self.assertEqual(self.statuses(), ["complete"] * 3)


class Unchanged(SweepTest):
    """What no axis changes is measured once; what an axis changes, in each point."""
    UBATCHES = "  policies.dual_batch.ubatches: [2, 3]\n"

    def measured(self):
        """Of each point {policy: the point in which it was measured}."""
        return [{row["policy"]: point["point"] if row["measured_in_point"] is None else row["measured_in_point"] for row in point["policies"]}
                for point in self.read()["points"]]

    def started(self, point, policy="sequential"):
        with h5py.File(self.out / point / policy / "rank-00001.h5") as file:
            return file.attrs["started_at"], file["timing/step_ns"][:].tolist()

    def test_the_baseline_is_measured_once_and_read_as_ever(self):
        outcome = self.run_sweep(self.file(self.UBATCHES), "--set", "record.timing=ops", "--set", "record.profiled_iterations=1")
        self.assertEqual(self.measured(), [{"sequential": 0, "dual_batch": 0}, {"sequential": 0, "dual_batch": 1}])
        self.assertEqual(self.started("point-0000"), self.started("point-0001"))
        self.assertNotEqual(self.started("point-0000", "dual_batch"), self.started("point-0001", "dual_batch"))
        self.assertEqual(self.statuses(), ["complete"] * 2)
        self.assertEqual(len(re.findall(r"(?m)^policy sequential step_ms \S+ verdict baseline \(measured in point 0\)$", outcome.out)), 1)
        self.assertRegex(outcome.out, r"(?m)^ +1 +3 +24 +sequential \(point 0\) ")
        point = self.out / "point-0001"
        self.assertEqual(json.loads((point / "sequential/summary.json").read_text())["measured_in_point"], 0)
        self.assertIsNone(json.loads((point / "dual_batch/summary.json").read_text())["measured_in_point"])
        first, second = (row["policies"][0] for row in self.read()["points"])
        self.assertEqual(first["step_ns"], second["step_ns"])
        for name in ("view.h5", "trace.json"):
            self.assertTrue((point / "sequential" / name).exists())
        with h5py.File(point / "sequential/view.h5") as view, h5py.File(self.out / "point-0000/sequential/rank-00000.h5") as file:
            self.assertEqual(view["output/hidden"][0].tolist(), file["output/hidden"][:].tolist())
        self.assertEqual(dovetail("verify", point / "sequential", point / "dual_batch").code, 0)
        compared = json.loads(dovetail("compare", point, "--format", "json").out)
        self.assertEqual({row["name"]: row["note"] for row in compared["policies"]}, {"sequential": "measured in point 0", "dual_batch": ""})
        self.assertEqual(compared["baseline"], "sequential")
        self.assertEqual(dovetail("verify", self.out / "point-0000/sequential", point / "sequential", "--mode", "bitwise").code, 0)

    def test_check_says_what_is_measured_once(self):
        path = self.file(self.UBATCHES)
        points = json.loads(dovetail("check", path, "--ranks", 2, "--format", "json").out)["points"]
        self.assertEqual([point["measured_in_point"] for point in points], [{}, {"sequential": 0}])
        check = dovetail("check", path, "--ranks", 2).out
        self.assertRegex(check, r"(?m)^ +1 +3 .* sequential \(point 0\), dual_batch *$")
        self.assertIn("(point N): sequential is measured once", check)
        again = dovetail("check", path, "--ranks", 2, "--set", "sweep_unchanged=measure_again")
        self.assertEqual(again.code, 0, str(again))
        self.assertNotIn("(point", again.out)

    def test_what_an_axis_changes_is_measured_in_each_point(self):
        self.run_sweep(self.file("  workload.seed: [1, 2]\n"))
        self.assertEqual(self.measured(), [{"sequential": 0, "dual_batch": 0}, {"sequential": 1, "dual_batch": 1}])
        self.assertNotEqual(self.started("point-0000"), self.started("point-0001"))

    def test_the_baseline_changes_alone(self):
        self.run_sweep(self.file("  policies.sequential.warmup: [0, 1]\n"))
        self.assertEqual(self.measured(), [{"sequential": 0, "dual_batch": 0}, {"sequential": 1, "dual_batch": 0}])
        self.assertEqual(self.statuses(), ["complete"] * 2)

    def test_each_point_can_be_asked_to_measure(self):
        self.run_sweep(self.file(self.UBATCHES), "--set", "sweep_unchanged=measure_again")
        self.assertEqual(self.measured(), [{"sequential": 0, "dual_batch": 0}, {"sequential": 1, "dual_batch": 1}])
        self.assertNotEqual(self.started("point-0000"), self.started("point-0001"))

    def test_a_sweep_that_goes_on_takes_what_is_there(self):
        path = self.file(self.UBATCHES)
        self.run_sweep(path)
        shutil.rmtree(self.out / "point-0001")
        self.run_sweep(path)
        self.assertEqual(self.measured()[1], {"sequential": 0, "dual_batch": 1})
        self.assertEqual(self.started("point-0000"), self.started("point-0001"))
        # Another setting of the machine is another measurement.
        shutil.rmtree(self.out / "point-0001")
        outcome = execute(self.command(path), limit_s=120, environment={"OMP_NUM_THREADS": "2" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"})
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertEqual(self.measured()[1], {"sequential": 1, "dual_batch": 1})

    def test_the_routing_of_a_baseline_that_was_not_run_again(self):
        path = self.file(self.UBATCHES)
        more = ("--set", "record.outputs=[hidden, routing]", "--set", "workload.variants=2", "--set",
                "workload.requests={count: 2, length: 12, context_length: 5}")
        self.run_sweep(path, *more, "--set", "verify.routing=replay")
        self.assertEqual(self.measured()[1], {"sequential": 0, "dual_batch": 1})
        self.assertEqual(self.statuses(), ["complete"] * 2)
        with h5py.File(self.out / "point-0000/sequential/rank-00001.h5") as plain, h5py.File(self.out / "point-0001/dual_batch/rank-00001.h5") as dual:
            self.assertEqual(dual.attrs["routing"], "replayed")
            self.assertEqual(plain["route/expert_ids"][:].tolist(), dual["route/expert_ids"][:].tolist())
            self.assertEqual(plain["context_route/expert_ids"][:].tolist(), dual["context_route/expert_ids"][:].tolist())


if __name__ == "__main__":
    unittest.main(verbosity=2)
