#!/usr/bin/env python3
"""A run that hangs, is slow, is stopped or throws: one report names the late rank and its op, in time; a run without a fault leaves none.

watchdog_test.py [unittest arguments]; cli.py has the environment.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import unittest
from pathlib import Path

import h5py

from cli import MPIRUN, BIN, TOP, CliTest, mpirun, ranks_of

TIMEOUT_S = 3
EXPERIMENT = """
experiment: watchdog
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: %(ranks)d}
workload: {phase: prefill, requests: {count: 2, length: 16}, seed: 9}
execution: {warmup: 1, iterations: %(iterations)d, timeout_s: %(timeout)d}
policies: [{name: dual_batch, ubatches: 2}]
verify: {mode: none}
record: {outputs: [hidden], timing: steps}
"""
PLACE = "ubatch 1, layer 2, phase {}"


def rank_number(pid):
    return int(re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", Path(f"/proc/{pid}/environ").read_bytes())[1])


class WatchdogCase(CliTest):
    def write_experiment(self, ranks, iterations=2):
        return self.write(EXPERIMENT % {"ranks": ranks, "iterations": iterations, "timeout": TIMEOUT_S})

    def has_steps(self, run=None):
        try:
            with h5py.File((run or self.folder / "run") / "dual_batch" / "rank-00000.h5") as file:
                return file["timing/step_ns"][2, 0] > 0
        except OSError:
            return False

    def report(self):
        return json.loads((self.folder / "run" / "dual_batch" / "failure.json").read_text())

    def assert_one_report(self, text):
        said = [line for line in text.splitlines() if line.startswith("dovetail")]
        self.assertEqual(len([line for line in said if "is late" in line or "injected" in line or "does not answer" in line]), 1, text)

    def run_and_fail(self, ranks, kind, phase, late, iteration=2, limit_s=60, *arguments):
        path = self.write_experiment(ranks)
        fault = f"fault={{kind: {kind}, rank: {late}, ubatch: 1, layer: 2, phase: {phase}, iteration: {iteration}}}"
        begin = time.monotonic()
        outcome = mpirun(ranks, "run", path, "--out", self.folder / "run", "--set", fault, *arguments, limit_s=limit_s)
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assert_one_report(outcome.err)
        self.assertNotIn("does not answer", outcome.err)
        written = (self.folder / "run" / "dual_batch" / "failure.json").stat().st_mtime
        self.assertLess(time.time() - written, 5 + 1, "the ranks ended late")
        self.assertLess(time.monotonic() - begin, limit_s)
        return outcome.err, self.report()

    def assert_late(self, report, rank, phase, kind):
        self.assertEqual(report["cause"], "timeout")
        self.assertEqual([(one["rank"], one["kind"]) for one in report["late"]], [(rank, kind)], report)
        op = report["late"][0]["op"]
        self.assertEqual((op["ubatch"], op["layer"], op["phase"]), (1, 2, phase), report)


class Watchdog(WatchdogCase):
    def test_a_hang_in_an_op(self):
        err, report = self.run_and_fail(2, "hang", "experts", late=1)
        self.assert_late(report, 1, "experts", "stuck")
        self.assertRegex(err, r"rank 1 is late: it is stuck since \d\.\d s in " + PLACE.format("experts") + r" \(compute lane\)")
        self.assertRegex(err, r"  rank 0 waits since \d\.\d s in ubatch \d, layer \d, phase \w+ \(comm lane\)")
        self.assertEqual((report["ranks"][1]["iteration"], report["ranks"][1]["activity"]), (2, "a timed step"))

    def test_a_hang_in_a_dispatch_of_four_ranks(self):
        err, report = self.run_and_fail(4, "hang", "dispatch", late=2)
        self.assert_late(report, 2, "dispatch", "stuck")
        self.assertRegex(err, r"rank 2 is late: it is stuck since \d\.\d s in " + PLACE.format("dispatch") + r" \(comm lane\)")
        for rank in (0, 1, 3):
            self.assertRegex(err, rf"  rank {rank} waits since \d\.\d s in " + PLACE.format("dispatch") + r" \(comm lane\)")

    def test_a_hang_that_nobody_waits_for_takes_one_timeout(self):
        for hand_off, most_s in (("threads", TIMEOUT_S + 1), ("inline", TIMEOUT_S + 2)):  # inline, no thread waits
            with self.subTest(hand_off=hand_off):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                err, report = self.run_and_fail(1, "hang", "experts", 0, 2, 60, "--set", f"execution.hand_off={hand_off}")
                self.assert_late(report, 0, "experts", "stuck")
                self.assertTrue(TIMEOUT_S <= report["late"][0]["op"]["open_s"] < most_s, report["late"])
                self.assertRegex(err, r"rank 0 is late: it is stuck since \d\.\d s in " + PLACE.format("experts"))

    def test_a_slow_op_is_no_hang(self):
        err, report = self.run_and_fail(2, "slow", "attention", late=0, iteration=0)
        self.assert_late(report, 0, "attention", "computes")
        self.assertRegex(err, r"rank 0 is late: it computes since \d\.\d s in " + PLACE.format("attention")
                         + r" \(compute lane\); where that is right, raise execution.timeout_s")
        self.assertEqual(report["ranks"][0]["activity"], "a step of the warm-up")

    def test_an_exception_ends_all_at_once_and_says_what_the_others_did(self):
        err, report = self.run_and_fail(4, "exception", "experts", late=3, limit_s=40)
        self.assertEqual((report["cause"], report["late"]), ("error", []))
        self.assertRegex(err, r"dovetail\[rank 0\]: policy dual_batch: rank 3, " + PLACE.format("experts") + ": injected fault")
        self.assertEqual(len(re.findall(r"(?m)^  rank [012] ", err)), 3, err)
        self.assertTrue(all(one["answered"] for one in report["ranks"]), report)
        for rank in range(4):
            with h5py.File(self.folder / "run" / "dual_batch" / f"rank-0000{rank}.h5") as file:
                self.assertEqual(file.attrs["status"], b"failed")
                self.assertGreater(file["timing/step_ns"][0, 0], 0)

    def test_an_exception_is_named_with_what_its_rank_did(self):
        contexts = ["--set", "workload.requests={count: 2, length: 16, context_length: 8}", "--set", "record.timing=ops"]
        path = self.write_experiment(2)
        for iteration, activity in ((-1, "the context's fill"), (0, "a step of the warm-up, iteration 0"), (3, "a profiled step, iteration 3")):
            with self.subTest(activity=activity):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                fault = f"fault={{kind: exception, rank: 1, ubatch: 0, layer: 2, phase: attention, iteration: {iteration}}}"
                outcome = mpirun(2, "run", path, "--out", self.folder / "run", *contexts, "--set", fault)
                self.assertEqual(outcome.code, 3, str(outcome))
                self.assertIn(f"policy dual_batch: rank 1, ubatch 0, layer 2, phase attention: injected fault (at {activity})", outcome.err)
                self.assert_one_report(outcome.err)

    def test_a_fault_of_contexts_that_no_request_has(self):
        fault = "fault={kind: exception, rank: 1, iteration: -1}"
        outcome = mpirun(2, "run", self.write_experiment(2), "--out", self.folder / "run", "--set", fault)
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertIn("the fault has not happened: exception at rank 1, ubatch 0, layer 0, phase experts, iteration -1", outcome.err)

    def test_without_a_fault_there_is_no_report(self):
        outcome = mpirun(2, "run", self.write_experiment(2), "--out", self.folder / "run")
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertEqual(outcome.err, "")
        self.assertFalse((self.folder / "run" / "dual_batch" / "failure.json").exists())


class Stopped(WatchdogCase):
    def stop(self, ranks, stopped):
        """Stops one rank amid its iterations; returns what was said, and the report."""
        path = self.write_experiment(ranks, iterations=100000)
        child = subprocess.Popen([*MPIRUN, "-np", str(ranks), BIN, "run", str(path), "--out", str(self.folder / "run")], cwd=TOP, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not self.has_steps():
            time.sleep(0.05)
        pids = {rank_number(pid): pid for pid in ranks_of(child)}
        os.kill(pids[stopped], signal.SIGSTOP)
        begin = time.monotonic()
        _, err = child.communicate(timeout=60)
        self.assertLess(time.monotonic() - begin, TIMEOUT_S + 5, err)
        self.assertEqual(child.returncode, 3, err)
        self.assert_one_report(err)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids.values()):
            time.sleep(0.05)
        self.assertFalse([pid for pid in pids.values() if Path(f"/proc/{pid}").exists()], err)
        return err, self.report()

    def test_a_stopped_rank_does_not_answer(self):
        for ranks, stopped in ((4, 2), (2, 0)):  # where rank 0 does not report, another rank does
            with self.subTest(stopped=stopped):
                shutil.rmtree(self.folder / "run", ignore_errors=True)
                err, report = self.stop(ranks, stopped)
                self.assertEqual([(one["rank"], one["kind"]) for one in report["late"]], [(stopped, "no_answer")], report)
                self.assertIn(f"rank {stopped} does not answer: it is stopped or dead, or its host is lost", err)
                self.assertEqual([one["answered"] for one in report["ranks"]], [rank != stopped for rank in range(ranks)])


BLOCKING_WRITE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void block(int file) {
  char link[64], path[4096] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, ".h5") && access(getenv("FROZEN"), F_OK) == 0)
    for (;;) pause();
}
ssize_t pwrite64(int file, const void* data, size_t size, off64_t at) {
  block(file);
  return ((ssize_t (*)(int, const void*, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(file, data, size, at);
}
ssize_t pwrite(int file, const void* data, size_t size, off_t at) { return pwrite64(file, data, size, at); }
"""


class Frozen(WatchdogCase):
    """A file system that answers no more: no rank waits for another, all are in a call of the system."""

    def freeze(self, freeze, out, environment=None):
        path = self.write_experiment(2, iterations=100000)
        child = subprocess.Popen([*MPIRUN, "-np", "2", BIN, "run", str(path), "--out", str(out)], cwd=TOP, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
        self.addCleanup(child.kill)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not self.has_steps(out):
            time.sleep(0.05)
        freeze()
        return child, time.monotonic()

    def assert_named(self, err, out):
        self.assertRegex(err, r"(?m)^dovetail\[rank 0\]: rank \d is late: it is in a call on the file " + f"{out}/dual_batch/"
                         + r"rank-0000\d\.h5\S* .*since \d\.\d s, at a timed step, iteration \d+.*the file system does not answer")
        self.assertEqual(err.count("is late"), 1 + err.count("; rank 1 is late"), err)

    def repeat_until_none_waits(self, attempt):
        """A rank whose write was done before the other's was frozen waits for it, and notices that first: then `attempt` tells nothing of the
        watch on progress, and is made again. It is given a number and returns what was printed."""
        for number in range(5):
            err = attempt(number)
            if f"no progress for {TIMEOUT_S + 1} s" in err:
                return
            self.assertRegex(err, rf"rank \d waits for the others since .*: not done within {TIMEOUT_S}000 ms")
        self.fail("in each attempt a rank has waited for the other")

    @unittest.skipUnless(shutil.which("cc"), "no compiler for the write that blocks")
    def test_a_write_that_never_returns(self):
        source, library, frozen = (self.folder / name for name in ("block.c", "block.so", "frozen"))
        source.write_text(BLOCKING_WRITE)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

        def attempt(number):
            out = self.folder / f"run-{number}"
            frozen.unlink(missing_ok=True)
            child, begin = self.freeze(frozen.touch, out, {"LD_PRELOAD": str(library), "FROZEN": str(frozen)})
            _, err = child.communicate(timeout=60)
            self.assertLess(time.monotonic() - begin, TIMEOUT_S + 7, err)
            self.assertEqual(child.returncode, 3, err)
            self.assert_named(err, out)
            self.assertEqual(json.loads((out / "dual_batch" / "failure.json").read_text())["late"][0]["kind"], "in_file")
            return err

        self.repeat_until_none_waits(attempt)

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("mkfs.ext4") and shutil.which("fsfreeze"), "mounts and freezes a file system")
    def test_a_frozen_file_system(self):
        image, disk = self.folder / "image", self.folder / "disk"
        disk.mkdir()
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        if subprocess.run(["mount", "-o", "loop", image, disk], capture_output=True).returncode != 0:
            self.skipTest("no loop device can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "--lazy", disk], check=True)
        self.addCleanup(subprocess.run, ["fsfreeze", "--unfreeze", disk], capture_output=True)

        def attempt(number):
            out, said = disk / f"run-{number}", []
            child, _ = self.freeze(lambda: subprocess.run(["fsfreeze", "--freeze", disk], check=True), out)
            reader = threading.Thread(target=lambda: said.extend(child.stderr), daemon=True)
            reader.start()
            time.sleep(TIMEOUT_S + 5)  # the bound
            before = "".join(said)
            time.sleep(3)  # a call that cannot be interrupted keeps its process until the file system answers
            subprocess.run(["fsfreeze", "--unfreeze", disk], check=True)
            self.assertNotEqual(child.wait(timeout=10), 0)
            self.assert_named(before, out)
            self.assertIn("failure.json could not be written", before)
            return before

        self.repeat_until_none_waits(attempt)


if __name__ == "__main__":
    unittest.main()
