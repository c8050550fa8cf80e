#!/usr/bin/env python3
"""GPU runs that end badly: a rank is stopped or killed amid eager steps and amid replays, a GPU has no memory left, a replayed step throws. All ranks end
in time, and one message says why.

gpu_endings_test.py [unittest arguments]
"""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

import h5py

from gpu_cases import MPIRUN, RANK, REACHING, TINY, TOP, GpuTest

from cli import ranks_of  # of tests/mpi, which gpu_cases has put on the path
from watchdog_test import rank_number

TIMEOUT_S = 4
EXPERIMENT = """
experiment: endings
model: %(model)s
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: 4, length: 24}, seed: 9}
execution: {device: cuda, dtype: bfloat16, warmup: 1, iterations: %(iterations)d, rounds: 1, timeout_s: %(timeout)d, graph: %(graph)s, exchange: %(exchange)s}
policies: [{name: dual_batch, ubatches: 2}]
verify: {mode: none}
record: {outputs: [hidden], timing: steps}
"""
KINDS = [(graph, exchange) for graph in ("none", "full") for exchange in ("gather", *REACHING)]


class Ending(GpuTest):
    NEEDED = 2

    def begin(self, name, *arguments, graph="none", exchange="gather", iterations=100000, timeout_s=TIMEOUT_S):
        """Starts two ranks; what they say is kept with the time at which it was said."""
        if getattr(self, "child", None) is not None and self.child.poll() is None:  # of a case that has failed: the GPUs are needed
            self.child.kill()
            self.child.wait(timeout=30)
        path = self.write(EXPERIMENT % {"model": TINY, "graph": graph, "exchange": exchange, "iterations": iterations, "timeout": timeout_s}, f"{name}.yaml")
        self.run_folder = self.folder / name
        self.child = subprocess.Popen([*MPIRUN, "-np", "2", *RANK, "run", str(path), "--out", str(self.run_folder), *map(str, arguments)], cwd=TOP,
                                      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self.addCleanup(self.child.kill)
        self.said = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            self.said.append((time.monotonic(), line.rstrip("\n")))

    def text(self):
        begin = self.said[0][0] if self.said else 0
        return "\n".join(f"{at - begin:7.2f} s  {line}" for at, line in list(self.said))

    def end(self, limit_s):
        """The exit code of mpirun, and when it came; the test fails where that takes longer."""
        try:
            code = self.child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            self.fail(f"no end within {limit_s} s; ranks that are left: {ranks_of(self.child)}\n{self.text()}")
        ended = time.monotonic()
        self.reader.join(timeout=5)
        return code, ended

    def steps(self, rank):
        """Iterations that a rank's file shows as finished; None where it cannot be read."""
        try:
            with h5py.File(self.run_folder / "dual_batch" / f"rank-0000{rank}.h5") as file:
                return int((file["timing/step_ns"][:, 0] > 0).sum())
        except (OSError, KeyError):
            return None

    def wait_for_steps(self, least=3, limit_s=60):
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline and self.child.poll() is None and (self.steps(0) or 0) < least:
            time.sleep(0.05)
        self.assertIsNone(self.child.poll(), f"it ended before its iterations\n{self.text()}")
        self.assertGreaterEqual(self.steps(0) or 0, least, f"no iterations within {limit_s} s\n{self.text()}")

    def assert_one_message(self, pattern):
        """One line of dovetail is a report, and it is that one; returns when it was said."""
        reports = [(at, line) for at, line in self.said if re.match(r"dovetail\[rank \d\]: (?!warning)", line)
                   and re.search(r"is late|does not answer|is gone|out of memory|symmetric memory of \d+ bytes|injected|wait for one another", line)]
        self.assertEqual(len(reports), 1, self.text())
        self.assertRegex(reports[0][1], pattern, self.text())
        return reports[0][0]


class GpuStopped(Ending):
    def strike(self, name, signal_number, victim, **kind):
        """Sends the signal to one rank amid its iterations; returns the exit code and how long all took to end."""
        self.begin(name, **kind)
        self.wait_for_steps()
        pids = {rank_number(pid): pid for pid in ranks_of(self.child)}
        self.assertEqual(sorted(pids), [0, 1], self.text())
        before = [self.steps(rank) for rank in (0, 1)]
        begin = time.monotonic()
        os.kill(pids[victim], signal_number)
        code, ended = self.end(limit_s=TIMEOUT_S + 20)
        left = [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
        deadline = time.monotonic() + 5
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
        self.assertFalse(left, f"processes are left over\n{self.text()}")
        for rank in (0, 1):
            self.assertIsNotNone(self.steps(rank), f"the file of rank {rank} cannot be read\n{self.text()}")
            self.assertGreaterEqual(self.steps(rank), before[rank], f"finished iterations of rank {rank} are gone\n{self.text()}")
        self.assertNotIn("illegal memory access", self.text())
        return code, ended - begin

    def test_a_stopped_rank(self):
        for graph, exchange in KINDS:
            for victim in (1, 0) if (graph, exchange) == ("full", "symmetric") else (1,):  # where rank 0 does not report, rank 1 does
                with self.subTest(graph=graph, exchange=exchange, stopped=victim):
                    code, seconds = self.strike(f"stop-{graph}-{exchange}-{victim}", signal.SIGSTOP, victim, graph=graph, exchange=exchange)
                    print(f"  {graph}, {exchange}: ended {seconds:.1f} s after rank {victim} was stopped", file=sys.stderr)
                    self.assertEqual(code, 3, self.text())
                    self.assert_one_message(rf"rank {victim} does not answer: it is stopped or dead, or its host is lost")
                    self.assertLess(seconds, TIMEOUT_S + 5, self.text())

    def test_a_killed_rank(self):
        for graph, exchange in KINDS:
            with self.subTest(graph=graph, exchange=exchange):
                code, seconds = self.strike(f"kill-{graph}-{exchange}", signal.SIGKILL, 1, graph=graph, exchange=exchange)
                print(f"  {graph}, {exchange}: ended {seconds:.1f} s after rank 1 was killed", file=sys.stderr)
                self.assertEqual(code, 128 + signal.SIGKILL, self.text())  # mpirun's, who has seen the rank go
                self.assert_one_message(r"rank 1 on host \S+ is gone")
                self.assertLess(seconds, TIMEOUT_S + 5, self.text())


# Takes the memory of a GPU but for some bytes, says so, and keeps it until its standard input ends. By the driver alone: no package is needed.
FILLER = """
import ctypes, sys
cuda = ctypes.CDLL("libcuda.so.1")
def check(result, what):
    if result != 0:
        sys.exit(f"{what}: CUDA error {result}")
check(cuda.cuInit(0), "cuInit")
device, context = ctypes.c_int(), ctypes.c_void_p()
check(cuda.cuDeviceGet(ctypes.byref(device), int(sys.argv[1])), "cuDeviceGet")
check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
check(cuda.cuCtxSetCurrent(context), "cuCtxSetCurrent")
free, total, memory = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64()
check(cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "cuMemGetInfo_v2")
check(cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(free.value - int(sys.argv[2]))), "cuMemAlloc_v2")
print(f"{free.value} bytes were free, {sys.argv[2]} are left", flush=True)
sys.stdin.read()
"""
LEFT_BYTES = 3 << 30  # a context, libraries and communicators find room


class GpuOutOfMemory(Ending):
    """The GPU of rank 1 has little memory left, which `check` cannot know: it counts what a card has."""
    MAY_SHARE = False

    ASKED_FOR = r"(Tried to allocate [\d.]+ [KMG]iB|symmetric memory of \d+ bytes)"

    def setUp(self):
        super().setUp()
        filler = subprocess.Popen([sys.executable, "-c", FILLER, "1", str(LEFT_BYTES)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        self.addCleanup(filler.wait, timeout=30)
        self.addCleanup(filler.stdin.close)
        told = filler.stdout.readline()
        self.assertIn("are left", told, f"the GPU could not be filled: {filler.stderr.read() if not told else told}")

    def assert_ends(self, name, pattern, *arguments, **kind):
        self.begin(name, *arguments, iterations=2, timeout_s=20, **kind)
        code, ended = self.end(limit_s=90)
        self.assertEqual(code, 3, self.text())
        said = self.assert_one_message(pattern)
        self.assertLess(ended - said, 5, self.text())
        self.assertNotIn("verdict", self.text())

    def test_a_model_that_does_not_fit(self):
        # Some 6 GB on each rank: 8 layers, of which a rank has half of the experts, and the embeddings.
        self.assert_ends("model", r"rank 1\b.*out of memory while loading the model: " + self.ASKED_FOR, "--set",
                         "model.config=models/configs/qwen3-30b-a3b.json", "--set", "model.layers=8")

    def test_a_step_that_does_not_fit(self):
        # Two million tokens a rank: half a gibibyte for each tensor of them, four times as much for those of their experts.
        for graph, exchange in (("none", "gather"), ("full", "gather"), ("none", "symmetric")):
            with self.subTest(graph=graph, exchange=exchange):
                self.assert_ends(f"step-{graph}-{exchange}", r"rank 1\b.*" + self.ASKED_FOR, "--set", "workload.requests={count: 1024, length: 2000}",
                                 graph=graph, exchange=exchange)


class GpuFaultOfAReplay(Ending):
    """A replayed graph runs no host code of its ops: a fault at one of them happens where the graph is launched."""

    def test_an_exception(self):
        for graph, phase in (("full", "experts"), ("full", "dispatch"), ("piecewise", "experts")):
            with self.subTest(graph=graph, phase=phase):
                self.begin(f"{graph}-{phase}", "--set", f"fault={{kind: exception, rank: 1, ubatch: 1, layer: 2, phase: {phase}, iteration: 3}}",
                           graph=graph, iterations=5)
                code, ended = self.end(limit_s=60)
                self.assertEqual(code, 3, self.text())
                said = self.assert_one_message(rf"rank 1, ubatch 1, layer 2, phase {phase}: injected fault \(at a timed step, iteration 3\)")
                self.assertLess(ended - said, 5, self.text())
                self.assertGreaterEqual(self.steps(1) or 0, 2, self.text())  # of iterations 1 and 2; 0 is the warm-up

    def test_a_rank_that_hangs_is_named(self):
        for exchange in ("gather", *REACHING):
            with self.subTest(exchange=exchange):
                self.begin(f"hang-{exchange}", "--set", "fault={kind: hang, rank: 1, ubatch: 0, layer: 1, phase: experts, iteration: 3}", graph="full",
                           exchange=exchange, iterations=5)
                code, _ = self.end(limit_s=60)
                self.assertEqual(code, 3, self.text())
                self.assert_one_message(r"rank 1 is late: it is stuck since \d\.\d s in ubatch 0, layer 1, phase experts")


if __name__ == "__main__":
    unittest.main(verbosity=2)
