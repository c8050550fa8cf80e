#!/usr/bin/env python3
"""`dovetail run --resume DIR`: a run that was ended goes on in its folder, keeps what is complete, and ends as an undisturbed one.

resume_test.py [unittest arguments]; cli.py has the environment.
"""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
import unittest

import h5py
import numpy as np

from cli import BIN, MPIRUN, TOP, CliTest, dovetail, execute, mpirun
from sweep_case import BASE, digests
from routing_test import RoutingTest
from watchdog_test import ranks_of

POLICIES = ("sequential", "dual_batch", "last")
THREE = BASE.replace("verify:", "  - {name: last, schedule: dual_batch, ubatches: 3}\nverify:").replace("iterations: 2", "iterations: %d, rounds: %d")


class ResumedRuns(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def start_and_end(self, path, last_signal, to_mpirun=False, policy="dual_batch"):
        """Ends the run in the middle of that policy; returns the exit code and what was said."""
        child = subprocess.Popen([*MPIRUN, "-np", "2", BIN, "run", str(path), "--out", str(self.out)], cwd=TOP, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 50
        while self.finished(policy) < 2 and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        for process in [child.pid] if to_mpirun else ranks_of(child):
            os.kill(process, last_signal)
        said = child.communicate(timeout=50)[0]
        self.assertNotEqual(child.returncode, 0, "the run had ended before\n" + said)
        return child.returncode, said

    def finished(self, policy):
        try:
            with h5py.File(self.out / policy / "rank-00000.h5") as file:
                return int((file["timing/step_ns"][:] >= 0).sum())
        except (OSError, KeyError):
            return 0

    def resume(self, *arguments, ranks=2, code=0):
        outcome = mpirun(ranks, "run", *arguments, "--resume", self.out)
        self.assertEqual(outcome.code, code, str(outcome))
        return outcome

    def summaries(self, run=None, policies=POLICIES):
        return {policy: json.loads(((run or self.out) / policy / "summary.json").read_text()) for policy in policies}

    def break_off(self, policy):
        """As a kill leaves it."""
        (self.out / policy / "summary.json").unlink()
        for path in (self.out / policy).glob("rank-*.h5"):
            with h5py.File(path, "r+") as file:
                file.attrs.modify("status", np.bytes_("running"))

    def assert_as_undisturbed(self, path):
        plain, _ = self.run_experiment(2, path, "undisturbed")
        for (policy, own), other in zip(self.summaries().items(), self.summaries(plain).values()):
            for key in ("status", "ubatches", "timings"):
                self.assertEqual(own[key], other[key], f"{policy} {key}")
            verdicts = [(one["verification"] or {}).get("verdict") for one in (own, other)]
            self.assertEqual(verdicts[0], verdicts[1], policy)
            self.assertEqual(own["decisions"]["steps"], other["decisions"]["steps"])
            for rank in ("rank-00000.h5", "rank-00001.h5"):
                with h5py.File(self.out / policy / rank) as a, h5py.File(plain / policy / rank) as b:
                    self.assertEqual(a["output/hidden"][:].tobytes(), b["output/hidden"][:].tobytes(), policy)
        self.assertEqual(dovetail("compare", self.out).code, 0)

    def test_a_killed_run_keeps_what_is_complete(self):
        path = self.write(THREE % (150, 1))
        self.start_and_end(path, signal.SIGKILL)
        complete = digests(self.out / "sequential")
        outcome = self.resume(path)
        self.assertIn("policy sequential is complete and stays as it is\n", outcome.out)
        self.assertIn("policy dual_batch is measured again: status is running\n", outcome.out)
        self.assertIn(f"what policy dual_batch had left is kept in {self.out / 'unfinished/dual_batch'}\n", outcome.out)
        after = digests(self.out / "sequential")
        self.assertEqual({name: after[name] for name in complete}, complete)
        with h5py.File(self.out / "unfinished/dual_batch/rank-00000.h5") as file:
            self.assertGreaterEqual(int((file["timing/step_ns"][:] >= 0).sum()), 2)
        self.assertFalse((self.out / "unfinished/last").exists(), "it had not begun")
        self.assert_as_undisturbed(path)
        files = digests(self.out)
        self.assertIn(f"nothing to do: all policies of {self.out} are complete\n", self.resume(path).out)
        self.assertEqual(digests(self.out), files)

    def test_policies_that_took_turns_are_all_measured_again(self):
        path = self.write(THREE % (150, 5))
        self.start_and_end(path, signal.SIGKILL)
        outcome = self.resume()  # the experiment is in the folder
        self.assertEqual(len(re.findall("(?m)^policy .* is measured again: ", outcome.out)), 3, str(outcome))
        self.assert_as_undisturbed(path)
        # One of them ended alone: its rounds are not those of the others.
        self.break_off("dual_batch")
        self.assertIn("policy last is complete and stays as it is\n", self.resume(path).out)
        self.assertTrue((self.out / "unfinished/dual_batch.2").exists())
        began = {policy: summary["rounds_ns"]["began_ns"] for policy, summary in self.summaries().items()}
        self.assertEqual(began["sequential"], began["last"])
        self.assertGreater(began["dual_batch"], began["last"])

    def test_a_run_that_was_stopped_says_how_to_go_on(self):
        path = self.write(THREE % (20000, 1))
        code, said = self.start_and_end(path, signal.SIGUSR1, to_mpirun=True, policy="sequential")
        self.assertEqual(code, 5, said)
        command = re.search(r"(?m)^to go on: (.*)$", said)[1]
        self.assertEqual(shlex.split(command), ["mpirun", "-np", "2", BIN, "run", "--resume", str(self.out)])
        code, said = self.start_and_end_again()
        self.assertEqual(code, 5, said)
        self.assertTrue((self.out / "unfinished/sequential").exists())

    def start_and_end_again(self):
        child = subprocess.Popen([*MPIRUN, "-np", "2", BIN, "run", "--resume", str(self.out)], cwd=TOP, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 50
        while not ((self.out / "unfinished/sequential").exists() and self.finished("sequential") > 1) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGUSR1)
        said = child.communicate(timeout=50)[0]
        return child.returncode, said

    def test_another_experiment_world_or_build_is_refused(self):
        path = self.write(THREE % (2, 1))
        refused = mpirun(2, "run", path, "--resume", self.folder / "nowhere")
        self.assertEqual(refused.code, 2, str(refused))
        self.assertIn("nowhere/experiment.yaml", refused.err)
        self.run_experiment(2, path, "out")
        self.break_off("dual_batch")
        files = digests(self.out)
        self.assertRegex(self.resume(path, "--set", "execution.iterations=3", code=2).err, r"is another experiment: line \d+ is 'iterations: 2', here 'iterations: 3'")
        self.assertIn("is another experiment", self.resume(path, "--policy", "dual_batch", code=2).err)
        self.assertIn("this run was begun on 2 ranks, these are 4", self.resume(path, ranks=4, code=2).err)
        with h5py.File(self.out / "sequential/rank-00001.h5", "r+") as file:
            revision = file.attrs["git_revision"]
            file.attrs["git_revision"] = "0123abc"
        files = digests(self.out)
        refused = self.resume(path, code=2)
        self.assertRegex(refused.err, r"sequential/rank-00001.h5: was written by another build: git_revision is '0123abc', here '")
        self.assertEqual(digests(self.out), files, "nothing was moved")
        with h5py.File(self.out / "sequential/rank-00001.h5", "r+") as file:
            file.attrs["git_revision"] = revision
            file.attrs["host"] = "elsewhere"
        outcome = self.resume(path)
        self.assertRegex(outcome.out, "policy sequential is measured again: (host is elsewhere, here .*|the file of another rank is not complete)\n")
        both = dovetail("run", path, "--out", self.out, "--resume", self.out)
        self.assertEqual(both.code, 2, str(both))

    def test_a_sweep_goes_on(self):
        path = self.write(BASE + "sweep:\n  workload.seed: [1, 2]\n", "sweep.yaml")
        self.assertIn("no sweep has begun there", self.resume(path, code=2).err)
        self.assertEqual(execute([*MPIRUN, "-np", "2", BIN, "run", str(path), "--out", str(self.out)], limit_s=100).code, 0)
        kept = digests(self.out / "point-0000")
        shutil.rmtree(self.out / "point-0001")
        outcome = self.resume()
        self.assertIn("going on with point 1", outcome.out)
        self.assertEqual(digests(self.out / "point-0000"), kept)
        self.assertEqual([point["status"] for point in json.loads((self.out / "sweep.json").read_text())["points"]], ["complete"] * 2)


class ResumedReferences(RoutingTest):
    def test_a_reference_that_is_missing_is_run_for_a_policy_that_is_kept(self):
        run, _ = self.run_routing("long", "phase: prefill, requests: {lengths: [64, 160, 99]}", ubatches=4)
        before = json.loads((run / "dual/summary.json").read_text())["verification"]
        self.assertTrue(before["baseline"].endswith("dual/reference"), "the routers chose alike: the test shows nothing")
        for policy in ("whole", "dual"):
            (run / policy / "summary.json").unlink()
        files = digests(run / "whole")
        outcome = mpirun(2, "run", "--resume", run)
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertNotIn("measured again", outcome.out)
        (run / "dual/summary.json").unlink()
        (run / "dual/reference/rank-00001.h5").unlink()
        outcome = mpirun(2, "run", "--resume", run)
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertTrue((run / "unfinished/dual.reference/rank-00000.h5").exists())
        after = json.loads((run / "dual/summary.json").read_text())["verification"]
        self.assertEqual((after["verdict"], after["baseline"], after["routing"]), (before["verdict"], before["baseline"], before["routing"]))
        self.assertEqual({name: one for name, one in digests(run / "whole").items() if name.endswith(".h5") and "view" not in name},
                         {name: one for name, one in files.items() if name.endswith(".h5") and "view" not in name})


if __name__ == "__main__":
    unittest.main(verbosity=2)
