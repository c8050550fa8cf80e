#!/usr/bin/env python3
"""How runs end that fail or are ended from outside: who is named, the exit code, what is left.

failures_test.py [unittest arguments]; cli.py has the environment.
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
from pathlib import Path

import h5py
import numpy as np

from cli import BIN, MPIRUN, TOP, dovetail, execute, mpirun, ranks_of
from small_case import SmallTest

PHASES = ["embed", "attention", "route", "dispatch", "experts", "shared_experts", "combine", "output"]


class Failures(SmallTest):
    def run_with_fault(self, ranks, fault, code, *arguments):
        path = self.experiment()
        outcome = mpirun(ranks, "run", path, "--out", self.folder / "run", "--policy", "dual_batch", "--set", f"fault={fault}",
                         "--set", "execution.timeout_s=4", *arguments)
        self.assertEqual(outcome.code, code, str(outcome))
        return outcome

    def statuses(self, policy):
        found = []
        for path in sorted((self.folder / "run" / policy).glob("rank-*.h5")):
            with h5py.File(path) as file:
                found.append(file.attrs["status"].decode())
        return found

    def test_an_exception_in_every_phase_is_named_and_ends_all_ranks(self):
        for number, phase in enumerate(PHASES):
            for ubatch in (0, 1):
                rank = (number + ubatch) % 2
                layer = -1 if phase in ("embed", "output") else number % 4
                with self.subTest(phase=phase, rank=rank, ubatch=ubatch):
                    shutil.rmtree(self.folder / "run", ignore_errors=True)
                    begin = time.monotonic()
                    # Iteration 1 is the first timed one; only dual_batch has a ubatch 1.
                    outcome = self.run_with_fault(2, f"{{kind: exception, rank: {rank}, ubatch: {ubatch}, layer: {layer}, phase: {phase}, iteration: 1}}", 3)
                    self.assertLess(time.monotonic() - begin, 15)  # start, one policy, and at most 5 s for the end
                    place = f"rank {rank}, ubatch {ubatch}, " + (f"layer {layer}, " if layer >= 0 else "") + f"phase {phase}"
                    self.assertEqual(len(re.findall(f"{place}: injected fault", outcome.err)), 1, str(outcome))
                    self.assertNotIn("verdict", outcome.out)
                    policy = "sequential" if ubatch == 0 else "dual_batch"
                    self.assertEqual(self.statuses(policy), ["failed", "failed"], str(outcome))
                    verify = dovetail("verify", self.folder / "run" / policy, self.folder / "run" / policy)
                    self.assertEqual(verify.code, 2, str(verify))

    def test_an_exception_in_a_profiled_step_ends_all_ranks(self):
        path = self.experiment()
        outcome = mpirun(2, "run", path, "--out", self.folder / "run", "--policy", "dual_batch", "--set", "execution={warmup: 1, iterations: 2, timeout_s: 4}",
                         "--set", "record={timing: ops, profiled_iterations: 2}",
                         "--set", "fault={kind: exception, rank: 1, ubatch: 1, layer: 2, phase: experts, iteration: 4}")
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertEqual(len(re.findall("policy dual_batch: rank 1, ubatch 1, layer 2, phase experts: injected fault", outcome.err)), 1, str(outcome))
        self.assertEqual(self.statuses("dual_batch"), ["failed", "failed"], str(outcome))
        with h5py.File(self.folder / "run" / "dual_batch" / "rank-00001.h5") as file:
            self.assertTrue((file["timing/step_ns"][:] > 0).all())  # all timed steps are there, and the first profiled one
            self.assertTrue((file["timing/profiled_step_ns"][0] > 0).all())
            self.assertTrue((file["timing/profiled_step_ns"][1] == -1).all())

    def test_a_hanging_rank_is_named_by_its_peer(self):
        outcome = self.run_with_fault(2, "{kind: hang, rank: 1, ubatch: 0, layer: 0, phase: attention, iteration: 1}", 3)
        self.assertRegex(outcome.err, "rank 0, ubatch 0, layer 0, phase dispatch: .*not done within 4000 ms.*ep rank 1")
        self.assertLess(outcome.seconds, 20)

    def test_a_killed_rank_is_named_and_ends_the_run(self):
        for ranks, killed in ((2, 0), (4, 0), (4, 2), (2, 1)):
            with self.subTest(ranks=ranks, killed=killed):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                outcome = self.run_with_fault(ranks, f"{{kind: kill, rank: {killed}, ubatch: 0, layer: 1, phase: experts, iteration: 2}}", 137)
                self.assertLess(outcome.seconds, 20)
                said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]
                self.assertEqual(len(said), 1, str(outcome))
                reporter = 1 if killed == 0 else 0
                self.assertRegex(said[0], rf"^dovetail\[rank {reporter}\]: rank {killed} on host \S+ is gone: killed, perhaps by the out-of-memory killer, or crashed$")
                report = json.loads((self.folder / "run" / "sequential" / "failure.json").read_text())
                self.assertEqual((report["cause"], [(one["rank"], one["kind"]) for one in report["late"]]), ("gone", [(killed, "gone")]), report)
                self.assertIn(f"report: {self.folder}/run/sequential/failure.json", outcome.err)
        with h5py.File(self.folder / "run" / "sequential" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["status"], b"running")
            self.assertGreater(file["timing/step_ns"][0, 0], 0)  # the finished iteration is there
            self.assertEqual(file["timing/step_ns"][1, 0], -1)

    def test_a_killed_mpirun_ends_the_run(self):
        # In silence: what ranks say goes through mpirun.
        child, _ = self.start_run("sequential")
        ranks = ranks_of(child)
        self.assertEqual(len(ranks), 2)
        child.kill()
        child.communicate(timeout=30)
        self.await_end(ranks)
        self.assertEqual(self.statuses("sequential"), ["running", "running"])

    def test_a_stop_is_not_lost_while_ranks_start(self):
        # The ranks' libraries take a while to load, and the handler comes behind them.
        child = self.start_command("sequential")
        told = set()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(told) < 2 and child.poll() is None:
            for pid in ranks_of(child):
                if pid not in told and self.blocks(pid, signal.SIGUSR1):
                    os.kill(pid, signal.SIGUSR1)
                    told.add(pid)
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 5, out + err)
        self.assertIn("stopped on request", out)

    def test_a_stop_is_not_lost_while_a_rank_waits_for_the_first(self):
        waits = {"OMPI_COMM_WORLD_SIZE": "4096", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "4095", "OMPI_COMM_WORLD_LOCAL_SIZE": "4096"}
        child = subprocess.Popen([BIN, "run", str(self.experiment()), "--out", str(self.folder / "run")], cwd=TOP, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env={**os.environ, **waits})
        self.addCleanup(child.kill)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not self.blocks(child.pid, signal.SIGUSR1):
            time.sleep(0.01)
        self.assertEqual(self.threads(child.pid), 1)  # none of its own yet: it still waits in front of main
        child.send_signal(signal.SIGUSR1)
        out, err = child.communicate(timeout=60)
        self.assertNotEqual(child.returncode, -signal.SIGUSR1, out + err)

    @staticmethod
    def status_of(pid, key):
        try:
            return re.search(rf"(?m)^{key}:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())[1]
        except (OSError, TypeError):
            return "0"

    def blocks(self, pid, name):
        return int(self.status_of(pid, "SigBlk"), 16) >> (name - 1) & 1 == 1

    def threads(self, pid):
        return int(self.status_of(pid, "Threads"))

    def await_end(self, pids):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
            time.sleep(0.02)
        self.assertFalse([pid for pid in pids if Path(f"/proc/{pid}").exists()])

    def start_command(self, policy):
        arguments = ["run", self.experiment(), "--out", self.folder / "run", "--policy", policy, "--set", "execution.iterations=100000",
                     "--set", "execution.rounds=1"]
        return subprocess.Popen([*MPIRUN, "-np", "2", BIN, *map(str, arguments)], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def start_run(self, policy):
        """Amid its iterations."""
        child = self.start_command(policy)
        file = self.folder / "run" / "sequential" / "rank-00001.h5"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not self.has_finished_iterations(file):
            time.sleep(0.05)
        return child, ranks_of(child)

    def stop_with(self, name, policy="sequential"):
        child, ranks = self.start_run(policy)
        begin = time.monotonic()
        child.send_signal(name)
        out, err = child.communicate(timeout=30)
        self.await_end(ranks)
        self.stopped_in_s = time.monotonic() - begin
        return child.returncode, out, err

    @staticmethod
    def has_finished_iterations(path):
        try:
            with h5py.File(path) as file:
                return file["timing/step_ns"][2, 0] > 0
        except OSError:
            return False

    def test_sigusr1_finishes_the_iteration(self):
        code, out, err = self.stop_with(signal.SIGUSR1, "dual_batch")  # behind the baseline, sequential
        self.assertEqual(code, 5, out + err)
        self.assertRegex(out, r"(?m)^stopped on request: policy sequential was asked to stop after \d+ of 100000 timed iterations; "
                              r"policy dual_batch has not run$")
        self.assertRegex(out, r"(?m)^policy sequential step_ms invalid verdict stopped$")
        self.assertRegex(out, r"(?m)^policy dual_batch step_ms invalid verdict not_run$")
        with h5py.File(self.folder / "run" / "sequential" / "rank-00000.h5") as file:
            finished = file["timing/step_ns"][:, 0] > 0
            self.assertGreater(finished.sum(), 2)
            self.assertFalse(finished.all())
            self.assertEqual(file.attrs["status"], b"stopped")
            self.assertTrue(np.isfinite(file["output/hidden"][:]).all())
        compared = json.loads(dovetail("compare", self.folder / "run", "--format", "json").out)["policies"]
        self.assertEqual([(policy["name"], policy["status"]) for policy in compared], [("sequential", "stopped"), ("dual_batch", "not_run")])
        self.assertRegex(compared[0]["note"], "asked to stop after")
        verify = dovetail("verify", self.folder / "run" / "sequential", self.folder / "run" / "sequential")
        self.assertEqual(verify.code, 2, str(verify))
        self.assertIn("status stopped (asked to stop after", verify.out + verify.err)

    def test_interrupts_leave_what_was_recorded(self):
        for name in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=name):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                self.assert_interrupted(name)

    def assert_interrupted(self, name):
        code, out, err = self.stop_with(name)
        self.assertNotEqual(code, 0, out + err)
        # A rank has 0.4 s to flush; the rest is mpirun's, and the machine's where it is busy.
        self.assertLess(self.stopped_in_s, 6, out + err)
        said = [line for line in err.splitlines() if line.startswith("dovetail")]
        self.assertLessEqual(len(said), 2, err)
        self.assertTrue(all(": to go on: mpirun -np 2 " in line for line in said[1:]), err)
        self.assertRegex(said[0], r"interrupted by (SIGTERM|a signal)")
        self.assertFalse((self.folder / "run" / "sequential" / "failure.json").exists())
        with h5py.File(self.folder / "run" / "sequential" / "rank-00000.h5") as file:
            self.assertIn(file.attrs["status"], (b"failed", b"running"))
            self.assertGreater(file["timing/step_ns"][2, 0], 0)


class Exhausted(SmallTest):
    """Nothing is left to write to, or of memory."""

    def test_output_that_cannot_be_written(self):
        run = self.folder / "run"
        outcome = dovetail("run", self.experiment(ep=1), "--out", run, "--set", "parallel.expert_parallel=1")
        self.assertEqual(outcome.code, 0, str(outcome))
        policy = run / "sequential"
        for command in (["compare", run], ["verify", policy, policy], ["check", "experiments/quickstart.yaml", "--ranks", 2, "--format", "json"], ["info"],
                        ["--help"], ["run", self.experiment(ep=1), "--out", self.folder / "again", "--set", "parallel.expert_parallel=1"]):
            with self.subTest(command=command):
                with open("/dev/full", "w") as full:
                    process = subprocess.run([BIN, *map(str, command)], cwd=TOP, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
                self.assertEqual(process.returncode, 3, process.stderr)
                self.assertRegex(process.stderr, r"(?m)^dovetail.*: the output cannot be written")

    def run_limited(self, limits, *arguments):
        """Two ranks under limits of the shell; mpirun itself has none. Returns what dovetail itself said."""
        command = shlex.join([BIN, "run", str(self.experiment()), "--out", str(self.folder / "run"), *arguments])
        outcome = execute([*MPIRUN, "-np", "2", "bash", "-c", f"{limits}; exec {command}"])
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertNotIn("frame #", outcome.err)
        return [line for line in outcome.err.splitlines() if line.startswith("dovetail")]

    def test_a_file_that_cannot_grow_is_named_once(self):
        # As a full disk says ENOSPC, this says EFBIG; SIGXFSZ would end the process in silence.
        for size in (20, 100):
            said = self.run_limited(f"ulimit -f {size}")
            self.assertEqual(len(said), 1, said)
            self.assertRegex(said[0], rf"^dovetail\[rank 0\]: {self.folder}/run/sequential/rank-\*.h5.creating: /\S+: \w+: File too large$")
            shutil.rmtree(self.folder / "run")

    @unittest.skipUnless(os.geteuid() == 0, "mounts a file system")
    def test_a_full_disk_is_named_once(self):
        disk = self.folder / "disk"
        disk.mkdir()
        path = self.experiment()
        for kibibytes in (500, 700, 1440):  # one rank file fits; those of the first policy; all, but not all that is made of them
            with self.subTest(kibibytes=kibibytes):
                command = shlex.join([*MPIRUN, "-np", "2", BIN, "run", str(path), "--out", str(disk / "run"), "--policy", "dual_batch"])
                outcome = execute(["unshare", "--mount", "bash", "-c", f"mount -t tmpfs -o size={kibibytes}k tmpfs {disk} && {command}"])
                said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]
                self.assertEqual(outcome.code, 3, str(outcome))
                self.assertEqual(len(said), 1, str(outcome))
                self.assertRegex(said[0], rf"^dovetail\[rank \d\]: .*{disk}/run.*No space left on device")

    def test_memory_that_runs_out_is_named_with_rank_and_phase(self):
        said = self.run_limited("ulimit -v 3000000", "--set", "workload.requests.count=10", "--set", "workload.requests.length=100000",
                                "--set", "policies=[{name: sequential}]", "--set", "record.outputs=[hidden]", "--set", "record.timing=steps")
        self.assertGreaterEqual(len(said), 1)
        for line in said:
            self.assertRegex(line, r"^dovetail\[rank \d\]: (policy sequential: rank \d, ubatch \d, (layer \d, )?phase \w+: )?(rank \d: )?"
                                   r"out of memory( while [A-Za-z ]+)?(: you tried to allocate \d+ bytes)?( \(at a step of the warm-up, iteration \d\))?$")


if __name__ == "__main__":
    unittest.main(verbosity=2)
