#!/usr/bin/env python3
"""The whole program from the command line: dovetail under mpirun, its exit codes, its last lines, and its files as h5py sees them.

cli_test.py [unittest arguments]; DOVETAIL_BIN names the executable, DOVETAIL_MPIRUN the launch line.
"""
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import h5py
import numpy as np

from cli import BIN, MPIRUN, TOP, CliTest, dovetail, exchanges_on, execute, mpirun, ranks_of

PHASES = ["embed", "attention", "route", "dispatch", "experts", "shared_experts", "combine", "output"]

SMALL = """
experiment: small
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: %(ep)d}
workload: {phase: prefill, requests: {count: %(count)d, length: 24}, seed: 9}
execution: {warmup: 1, iterations: 2, timeout_s: 20}
policies:
  - {name: sequential}
  - {name: shared_expert}
  - {name: dual_batch, ubatches: 2}
  - {name: dual_inline, schedule: dual_batch, ubatches: 2, hand_off: inline}
  - {name: dual_gather, schedule: dual_batch, ubatches: 2, exchange: gather}
  - {name: dual_3, schedule: dual_batch, ubatches: 3, split: request}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits, layers, routing], timing: ops, profiled_iterations: 1}
"""


class SmallTest(CliTest):
    def experiment(self, text=SMALL, **values):
        return self.write(text % {"ep": 2, "count": 4, **values} if "%(" in text else text)


class Run(SmallTest):
    def test_quickstart_is_verified_and_readable(self):
        run, outcome = self.run_experiment(2, "experiments/quickstart.yaml", "run")
        lines = outcome.out.strip().splitlines()[-4:]
        self.assertEqual(lines[0], f"results {run}")
        for line, policy, verdict in zip(lines[1:], ["sequential", "dual_batch", "dual_inline"],
                                         ["baseline", "verified", "verified"]):
            self.assertRegex(line, rf"^policy {policy} step_ms \d+\.\d+( speed_up .*\))? verdict {verdict}$")
        with h5py.File(run / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["status"], b"complete")
            self.assertEqual(file["output/hidden"].shape, (7 * 127, 64))
            self.assertTrue(np.isfinite(file["output/hidden"][:]).all())
            self.assertTrue((file["timing/step_ns"][:] > 0).all())
            self.assertTrue((file["timing/decision"][:, :, 0] == 1).all())
            self.assertEqual(list(file["input/requests"][:]), list(range(7, 14)))
        with h5py.File(run / "dual_batch" / "view.h5") as view:
            self.assertEqual(view["output/logits"].shape, (2, 7, 256))
            with h5py.File(run / "dual_batch" / "rank-00001.h5") as file:
                np.testing.assert_array_equal(view["output/logits"][1], file["output/logits"][:])
        summary = json.loads((run / "dual_batch" / "summary.json").read_text())
        self.assertEqual(summary["verification"]["verdict"], "verified")
        events = json.loads((run / "dual_batch" / "trace.json").read_text())["traceEvents"]
        self.assertTrue(any(event.get("name", "").startswith("dispatch") for event in events))

    def test_the_first_line_says_what_decides_and_what_comes_next_is_no_line_for_scripts(self):
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_gather", "--set", "record.timing=steps")
        self.assertRegex(outcome.out.splitlines()[0], r"^run: 2 ranks on 1 host; cpu \(.+\); expert parallel 2 x data parallel 1; dtype float32; "
                         r"numerics fast; exchange ragged \(dual_gather: gather\); link shared memory of the host; 2 iterations after 1 of warm-up$")
        self.assertRegex(outcome.out.splitlines()[-1], "^policy dual_gather step_ms .* verdict verified( |$)")
        compare = re.search(r"(?m)^compare: (.+)$", outcome.out)[1]
        self.assertEqual(compare, f"{BIN} compare {run}")
        self.assertIn("--set record.timing=ops", outcome.out)
        _, with_ops = self.run_experiment(2, self.experiment(), "ops", "--policy", "sequential")
        self.assertNotIn("record.timing", with_ops.out)

    def test_outputs_that_are_not_finite_are_named_whatever_is_verified(self):
        checkpoint = self.folder / "checkpoint"
        shutil.copytree(TOP / "tests/fixtures/qwen3-moe-tiny", checkpoint)
        with open(checkpoint / "model.safetensors", "r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            begin, _ = json.loads(file.read(size))["model.norm.weight"]["data_offsets"]
            file.seek(8 + size + begin)
            file.write(b"\xff" * 4)  # NaN in any dtype
        weights = ["--set", f"model.config={checkpoint / 'config.json'}", "--set", f"model.weights={{checkpoint: {checkpoint}}}"]
        named = "policy sequential: not finite: hidden of rank 0, request 0, position 0, element 0 is nan"
        run, outcome = self.run_experiment(2, self.experiment(), "none", "--policy", "sequential", "--set", "verify={mode: none}", *weights)
        self.assertIn(named + "\n", outcome.out)
        self.assertRegex(outcome.out.splitlines()[-1], "^policy sequential step_ms .* verdict not_finite$")
        self.assertEqual(json.loads((run / "sequential/summary.json").read_text())["not_finite"]["tensor"], "hidden")
        run, outcome = self.run_experiment(2, self.experiment(), "both", "--policy", "dual_batch", *weights, code=4)
        self.assertIn(named + "; nothing can be verified against it\n", outcome.out)
        self.assertIn("policy sequential step_ms invalid verdict not_finite", outcome.out)
        self.assertIn("policy dual_batch step_ms invalid verdict mismatch", outcome.out)
        self.assertIn(f"verify: {BIN} verify {run / 'sequential'} {run / 'dual_batch'}\n", outcome.out)
        self.run_experiment(2, self.experiment(), "alone", "--policy", "sequential", *weights, code=4)

    def test_the_recorded_experiment_resolves_to_itself(self):
        first, _ = self.run_experiment(2, self.experiment(), "first", "--set", "execution.iterations=3")
        second, _ = self.run_experiment(2, first / "experiment.yaml", "second")
        self.assertEqual((first / "experiment.yaml").read_text(), (second / "experiment.yaml").read_text())
        with h5py.File(second / "sequential" / "rank-00000.h5") as file:
            self.assertEqual(file["timing/step_ns"].shape[0], 3)
            self.assertEqual(file["config"][()].decode(), (first / "experiment.yaml").read_text())

    def test_policies_agree_to_the_bit_where_they_must(self):
        run, _ = self.run_experiment(2, self.experiment(), "run")
        self.assert_verified(run / "dual_batch", run / "dual_inline", "bitwise")
        self.assert_verified(run / "dual_batch", run / "dual_gather", "bitwise")
        self.assert_verified(run / "sequential", run / "dual_3")

    def test_uneven_and_idle_ranks(self):
        run, _ = self.run_experiment(4, "experiments/uneven_ranks.yaml", "run", "--set", "execution.iterations=2")
        with h5py.File(run / "dual_batch" / "rank-00002.h5") as idle:
            self.assertEqual(idle["input/input_ids"].shape, (0,))
            self.assertTrue((idle["timing/decision"][:, 0, 0] == 1).all())
        with h5py.File(run / "dual_vetoed" / "rank-00000.h5") as vetoed:
            self.assertTrue((vetoed["timing/decision"][:, 0, 0] == 0).all())
            self.assertTrue((vetoed["timing/decision"][:, 0, 3] == 1).all())

    def test_a_rank_vetoes_one_step(self):
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_batch", "--set",
                                           "fault={kind: veto, rank: 1, iteration: 2}")
        self.assertIn("fault injected", outcome.out)
        with h5py.File(run / "dual_batch" / "rank-00000.h5") as file:
            self.assertEqual(file["timing/decision"][:, 0, :].tolist(), [[1, 0, 0, 0, -1, 1, 0], [0, 0, 1, 2, 1, 1, 0]])

    def test_routing_is_replayed_within_a_run_and_from_an_earlier_one(self):
        path = self.experiment()
        within, _ = self.run_experiment(2, path, "within", "--set", "verify.routing=replay")
        replay = f"workload.routing={{replay: {within / 'sequential'}}}"
        later, _ = self.run_experiment(2, path, "later", "--set", replay)
        self.assert_verified(within / "sequential", later / "dual_batch")
        with h5py.File(later / "dual_batch" / "rank-00000.h5", "r") as file:
            self.assertEqual(file.attrs["routing"], "replayed")
            self.assertTrue((file["route/natural_expert_ids"][:] == file["route/expert_ids"][:]).all())

    def test_replay_takes_the_recorded_experts(self):
        path = self.experiment()
        first, _ = self.run_experiment(2, path, "first", "--policy", "sequential")
        for name in ("rank-00000.h5", "rank-00001.h5"):  # other experts than the model would choose
            with h5py.File(first / "sequential" / name, "r+") as file:
                file["route/expert_ids"][:] = (file["route/expert_ids"][:] + 1) % 16
        replay = f"workload.routing={{replay: {first / 'sequential'}}}"
        second, _ = self.run_experiment(2, path, "second", "--policy", "sequential", "--set", replay)
        with h5py.File(first / "sequential" / "rank-00000.h5") as a, h5py.File(second / "sequential" / "rank-00000.h5") as b:
            np.testing.assert_array_equal(a["route/expert_ids"][:], b["route/expert_ids"][:])
            self.assertGreater(np.abs(a["output/hidden"][:] - b["output/hidden"][:]).max(), 1e-3)

    def test_reduced_precision_runs(self):
        for dtype in ("bfloat16", "float16"):
            run, _ = self.run_experiment(2, self.experiment(), dtype, "--set", f"execution.dtype={dtype}",
                                         "--set", "verify.routing=replay")
            with h5py.File(run / "sequential" / "rank-00000.h5") as file:
                self.assertTrue(np.isfinite(file["output/logits"][:].astype(np.float32)).all())


class Grids(SmallTest):
    def test_all_grids_compute_the_same(self):
        # 8 requests in all, on 1, 2 and 4 ranks, with 1, 2 and 4 ranks in an ep group.
        reference, _ = self.run_experiment(1, self.experiment(ep=1, count=8), "reference")
        for ranks, ep in ((2, 1), (2, 2), (4, 1), (4, 2), (4, 4)):
            with self.subTest(ranks=ranks, ep=ep):
                run, _ = self.run_experiment(ranks, self.experiment(ep=ep, count=8 // ranks), f"run-{ranks}-{ep}")
                for policy in ("sequential", "dual_batch", "dual_3"):
                    self.assert_verified(reference / "sequential", run / policy)


class Verdicts(SmallTest):
    """What verify must not pass: a run is damaged in one place and compared with itself as it was."""

    @classmethod
    def setUpClass(cls):
        cls.base = Path(tempfile.mkdtemp(prefix="dovetail-cli-"))
        path = cls.base / "experiment.yaml"
        path.write_text(SMALL % {"ep": 2, "count": 4})
        outcome = mpirun(2, "run", path, "--out", cls.base / "run", "--policy", "dual_batch")
        assert outcome.code == 0, str(outcome)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    def damaged(self, damage):
        policy = self.folder / "dual_batch"
        shutil.copytree(self.base / "run" / "dual_batch", policy)
        with h5py.File(policy / "rank-00001.h5", "r+") as file:
            damage(file)
        return dovetail("verify", self.base / "run" / "sequential", policy)

    def test_untouched_passes(self):
        self.assertEqual(self.damaged(lambda file: None).code, 0)

    def test_one_element(self):
        def damage(file):
            file["output/hidden"][17, 5] += 0.01
        outcome = self.damaged(damage)
        self.assertEqual(outcome.code, 4, str(outcome))
        self.assertIn("request 4, position 17, element 5", outcome.out)

    def test_two_swapped_tokens(self):
        def damage(file):
            rows = file["output/hidden"][:]
            rows[[3, 4]] = rows[[4, 3]]
            file["output/hidden"][:] = rows
        self.assertEqual(self.damaged(damage).code, 4)

    def test_one_wrong_expert(self):
        def damage(file):
            ids = file["route/expert_ids"][:]
            ids[1, 7, 0] = next(expert for expert in range(16) if expert not in ids[1, 7])
            file["route/expert_ids"][:] = ids
        outcome = self.damaged(damage)
        self.assertEqual(outcome.code, 4, str(outcome))
        self.assertIn("layer 1", outcome.out)

    def test_a_nan(self):
        def damage(file):
            file["output/logits"][0, 0] = np.nan
        self.assertEqual(self.damaged(damage).code, 4)

    def test_other_weights(self):
        def damage(file):
            file.attrs.modify("weights_digest", np.bytes_(b"0" * 16))
        self.assertNotEqual(self.damaged(damage).code, 0)

    def test_a_missing_rank(self):
        policy = self.folder / "dual_batch"
        shutil.copytree(self.base / "run" / "dual_batch", policy)
        (policy / "rank-00001.h5").unlink()
        outcome = dovetail("verify", self.base / "run" / "sequential", policy)
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("rank 1", outcome.out + outcome.err)

    def test_a_mismatch_ends_the_run_with_4_and_invalid_times(self):
        # Bitwise equality with the whole run is not to be had for a ubatch of one token: its matrix products are vector products.
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_3", "--set", "verify.mode=bitwise",
                                           "--set", "policies.dual_3.split={sizes: [1, 2, 0]}", code=4)
        self.assertIn("policy dual_3 step_ms invalid verdict mismatch", outcome.out)
        self.assertEqual(json.loads((run / "dual_3" / "summary.json").read_text())["timings"], "invalid")


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


class BadInput(SmallTest):
    def refuse(self, expected, *arguments, ranks=2, text=SMALL, code=2):
        path = self.experiment(text)
        outcome = mpirun(ranks, "run", path, "--out", self.folder / "run", *arguments)
        self.assertEqual(outcome.code, code, str(outcome))
        said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]  # not what mpirun adds
        self.assertEqual(len([line for line in said if re.search(expected, line)]), 1, f"want once: {expected}\n{outcome}")
        self.assertFalse((self.folder / "run" / "sequential").exists(), str(outcome))

    def test_processes_that_mpi_does_not_know_of(self):
        """As srun starts them where Slurm has no PMIx: each would be a world of its own."""
        path = self.experiment(ep=1)
        said = ""
        for process in ("0", "1"):
            outcome = dovetail("run", path, "--out", self.folder / "run", environment={"SLURM_NTASKS": "2", "SLURM_PROCID": process})
            self.assertEqual(outcome.code, 2, str(outcome))
            said += outcome.err
        self.assertEqual(said.count("Slurm has started 2 processes (SLURM_NTASKS), but MPI knows of 1 rank"), 1, said)
        self.assertFalse((self.folder / "run").exists())

    def test_settings(self):
        for expected, setting in (
            ("unknown.*architecture.*qwen3_moe", "model.architecture=llama"),
            ("unknown.*sequential.*dual_batch", "policies[1].schedule=tripple"),
            ("exchange.*gather", "execution.exchange=carrier_pigeon"),
            ("padded.*on device cpu|padded.*not built yet", "execution.exchange=padded"),
            ("unknown key.*iterations", "execution.iteration=3"),
            ("stages.*staged", "policies.dual_batch.stages=prefill"),
            ("graph full (on device cpu|with dtype)", "execution.graph=full"),
            ("from 0 to 8, found .9", "policies.dual_batch.ubatches=9"),
            ("no-such-config", "model.config=models/configs/no-such-config.json"),
            ("no-such-folder", "model.weights={checkpoint: no-such-folder}"),
        ):
            with self.subTest(setting=setting):
                self.refuse(expected, "--set", setting)

    def test_ranks_and_experts(self):
        self.refuse("multiple", ranks=3)
        self.refuse("16 experts.* multiple of parallel.expert_parallel = 3", "--set", "parallel.expert_parallel=3", ranks=3)

    def test_one_rank_without_mpirun_where_more_are_needed(self):
        path = self.experiment()
        outcome = dovetail("run", path, "--out", self.folder / "run")
        self.assertEqual(outcome.code, 2, str(outcome))
        arguments = f"run {path} --out {self.folder / 'run'}"
        self.assertIn(f"start them with launch/run_local.sh 2 {arguments}, or mpirun -np 2 {BIN} {arguments}\n", outcome.err)

    def test_what_is_missing_or_unknown_is_listed(self):
        self.refuse("unknown policy 'triple_batch'; the experiment has: sequential, shared_expert, dual_batch, ", "--policy", "triple_batch")
        self.refuse("verify: the key 'mode' is missing; it is required: none, bitwise, tolerance", "--set", "verify={baseline: sequential}")
        self.refuse(rf"models/none.json: .*\(relative paths count from the working directory, {TOP}\)", "--set", "model.config=models/none.json")

    def test_place_in_the_file(self):
        self.refuse(r"experiment.yaml:4:\d+: ", text=SMALL.replace("expert_parallel", "expert_paralel"))

    def test_what_cannot_be_looked_at_is_refused_with_path_and_reason(self):
        loop = self.folder / "loop"
        loop.symlink_to(loop)
        long = self.folder / ("x" * 300)
        file = self.write("x", "file")
        path = self.experiment(ep=1)
        sets = lambda text: ["--ranks", "1", "--set", text]
        for bad, reason in ((loop, "Too many levels of symbolic links"), (loop / "sequential", "Too many levels of symbolic links"), (long, "File name too long")):
            for arguments in (["verify", bad, bad], ["compare", bad], ["check", path, *sets(f"workload.routing={{replay: {bad}}}")],
                              ["check", path, *sets(f"model.weights={{checkpoint: {bad}}}")], ["run", path, "--out", bad],
                              ["run", path, "--set", f"workload.routing={{replay: {bad}}}", "--out", self.folder / "run"]):
                with self.subTest(bad=bad.name[:9], arguments=arguments[:1]):
                    outcome = dovetail(*arguments)
                    self.assertEqual(outcome.code, 2, str(outcome))
                    self.assertRegex(outcome.out + outcome.err, rf"(?s){re.escape(str(bad))}[^\n]*: [^\n]*{reason}")  # verify reports
        outcome = dovetail("run", path, "--out", file / "below")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn(f"{file / 'below'}: cannot be made: Not a directory", outcome.err)

    def test_a_closed_folder_is_not_said_to_be_absent(self):
        """As nobody, since permissions do not hold for root."""
        if os.getuid() != 0 or not shutil.which("setpriv"):
            self.skipTest("needs root and setpriv")
        closed = self.folder / "closed"
        (closed / "inside").mkdir(parents=True)
        closed.chmod(0)
        self.folder.chmod(0o755)
        path = self.experiment(ep=1)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if execute([*nobody, BIN, "--help"]).code != 0:
            self.skipTest("the executable or its libraries cannot be read by others")
        for arguments in (["verify", closed / "inside", closed / "inside"], ["compare", closed / "inside"], ["compare", closed],
                          ["check", path, "--ranks", "1", "--set", f"model.weights={{checkpoint: {closed / 'inside'}}}"]):
            with self.subTest(arguments=arguments):
                outcome = execute([*nobody, BIN, *map(str, arguments)])
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.out + outcome.err, f"{closed}.*: .*Permission denied")

    def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(self):
        pipe = self.folder / "pipe.json"
        os.mkfifo(pipe)
        path = self.experiment(SMALL.replace("verify:", "  - {name: auto, candidate: dual_batch, table: absent.json}\nverify:"))
        for arguments in (
            [pipe],
            [path, "--set", f"model.config={pipe}"],
            [path, "--set", f"workload.requests={{file: {pipe}}}"],
            [path, "--set", f"policies.dual_batch.schedule={pipe}"],
            [path, "--set", f"policies.auto.table={pipe}"],
        ):
            with self.subTest(arguments=arguments):
                outcome = dovetail("check", *arguments, "--ranks", 2, limit_s=20)
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertIn(f"{pipe}: cannot be opened or read: not a regular file", outcome.err)
        self.refuse(f"{pipe}: cannot be opened or read: not a regular file", "--set", f"model.config={pipe}")

    def test_check_refuses_what_a_run_refuses(self):
        fixtures = TOP / "tests/fixtures"
        tiny, sharded, empty = fixtures / "qwen3-moe-tiny", self.folder / "sharded", self.folder / "empty"
        empty.mkdir()
        shutil.copytree(fixtures / "tied-dense-sharded", sharded)
        (sharded / "model-00003-of-00007.safetensors").unlink()
        cut = self.folder / "cut"
        shutil.copytree(tiny, cut)
        os.truncate(cut / "model.safetensors", 400_000)
        deeper = self.folder / "deeper"
        deeper.mkdir()
        config = json.loads((tiny / "config.json").read_text())
        (deeper / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
        path = self.experiment(count=2)
        few, _ = self.run_experiment(2, path, "few", "--policy", "sequential", "--set", "workload.requests.count=1")
        without, _ = self.run_experiment(2, path, "without", "--policy", "sequential", "--set", "record.outputs=[hidden]")
        policies = "[{name: sequential}, {name: auto, candidate: dual_batch, table: %s}]"

        def checkpoint(folder, config=tiny):
            return [f"model.config={config / 'config.json'}", f"model.weights={{checkpoint: {folder}}}"]

        for expected, settings in (
            ("no-such-folder: no such checkpoint folder", checkpoint("no-such-folder")),
            ("empty: holds no weights", checkpoint(empty)),
            ("model.safetensors: ", checkpoint(cut)),
            ("model-00003-of-00007.safetensors' is not in the folder", checkpoint(sharded, sharded)),
            ("has shape .* the model needs", checkpoint(fixtures / "all-experts-half")),
            ("no tensor 'model.layers.", checkpoint(tiny, deeper)),
            ("none: no such folder", [f"workload.routing={{replay: {empty / 'none'}}}"]),
            ("empty: holds no rank file", [f"workload.routing={{replay: {empty}}}"]),
            ("without/sequential/rank-00000.h5: /route/expert_ids: no such dataset", [f"workload.routing={{replay: {without / 'sequential'}}}"]),
            ("holds the routing of 0 of .* 48 tokens", [f"workload.routing={{replay: {few / 'sequential'}}}"]),
            ("is of layers all; allowed for layers from 2 on", ["model.layers=[2, 4]", f"workload.inputs={{hidden: {few / 'sequential'}}}"]),
            ("none.json: cannot be opened or read", ["policies.dual_batch.schedule=none.json"]),
            ("none.json: cannot be opened or read", ["policies=" + policies % "none.json"]),
            ("policy sequential, rank 0: execution.cache_tokens 16", ["execution.cache_tokens=16"]),
        ):
            with self.subTest(expected=expected):
                arguments = [word for setting in settings for word in ("--set", setting)]
                outcomes = [dovetail("check", path, "--ranks", 2, *arguments), mpirun(2, "run", path, "--out", self.folder / "out", *arguments)]
                said = [re.findall(r"(?m)^dovetail(?:\[rank \d\])?: (.*)$", outcome.err) for outcome in outcomes]
                for outcome, lines in zip(outcomes, said):
                    self.assertEqual(outcome.code, 2, str(outcome))
                    self.assertEqual(len(lines), 1, str(outcome))
                    self.assertRegex(lines[0], expected)
                self.assertEqual(re.sub(r"rank \d's", "this rank's", said[0][0]), re.sub(r"^rank \d: ", "", said[1][0]))

    def test_truncated_checkpoint(self):
        checkpoint = self.folder / "checkpoint"
        shutil.copytree(TOP / "tests/fixtures/qwen3-moe-tiny", checkpoint)
        with open(checkpoint / "model.safetensors", "r+b") as file:
            file.truncate(400_000)
        self.refuse("model.safetensors", "--set", f"model.config={checkpoint / 'config.json'}", "--set",
                    f"model.weights={{checkpoint: {checkpoint}}}")

    def test_a_folder_that_is_not_empty_stays_as_it_is(self):
        out = self.folder / "run"
        out.mkdir()
        (out / "precious.txt").write_text("precious")
        outcome = mpirun(2, "run", self.experiment(), "--out", out)
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("not empty", outcome.err)
        self.assertEqual([path.name for path in out.iterdir()], ["precious.txt"])

    def test_usage(self):
        for arguments in (["run"], ["frobnicate"], ["run", "experiments/quickstart.yaml", "--frobnicate"],
                          ["run", "experiments/no-such-file.yaml"]):
            with self.subTest(arguments=arguments):
                outcome = mpirun(2, *arguments)
                self.assertEqual(outcome.code, 2, str(outcome))

    def test_a_cut_result_file(self):
        run, _ = self.run_experiment(2, self.experiment(), "run", "--policy", "sequential")
        with open(run / "sequential" / "rank-00001.h5", "r+b") as file:
            file.truncate(3000)
        for command in (["verify", run / "sequential", run / "sequential"], ["compare", run], ["compare", run, "--format", "json"]):
            outcome = dovetail(*command)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertIn("rank-00001.h5", outcome.out + outcome.err)


class Tools(SmallTest):
    def test_check_plan_info_print_json(self):
        check = json.loads(dovetail("check", "experiments/uneven_ranks.yaml", "--ranks", 4, "--format", "json").out)
        self.assertEqual([rank["tokens"] for rank in check["grid"]["ranks"]], [640, 320, 0, 160])
        self.assertTrue(all(memory["total"] > 0 for memory in check["memory_bytes_by_rank"]))
        plan = json.loads(dovetail("plan", "experiments/quickstart.yaml", "--policy", "dual_batch", "--format", "json").out)
        self.assertEqual(plan["num_ubatches"], 2)
        lines = [dovetail("plan", "experiments/gpu_prefill.yaml", "--policy", name).out.splitlines()[-1] for name in ("plain", "dual", "dual_16_sms")]
        self.assertEqual(lines, [f"on a GPU: comm SMs {own}, in plain steps {plain}" for own, plain in (("all", "all"), ("8", "all"), ("16", "16"))])
        self.assertIn("digraph", dovetail("plan", "experiments/quickstart.yaml", "--policy", "dual_batch", "--format", "dot").out)
        info = json.loads(dovetail("info", "--format", "json").out)
        self.assertIn("qwen3_moe", info["architectures"])
        self.assertIn("ragged", info["exchanges"])

    def test_a_bench_of_ranks_that_mpi_does_not_know_of_is_refused(self):
        small = ["bench", "exchange", "--device", "cpu", "--tokens", "3", "--hidden", "64", "--experts", "8", "--top-k", "2"]
        for variables, code, said in (
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, 2, "Slurm has started 2 processes (SLURM_NTASKS), but MPI knows of 1 rank"),
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 2, ""),  # the first process speaks for all
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, 2, "MPI has no way to find them (no PMIX_RANK)"),
                ({"OMPI_COMM_WORLD_SIZE": "4"}, 2, "Open MPI's mpirun has started 4 processes"),
                ({"DOVETAIL_START_LIMIT_S": "soon"}, 2, "DOVETAIL_START_LIMIT_S: 'soon'")):
            with self.subTest(variables=variables):
                outcome = dovetail(*small, environment=variables)
                self.assertEqual(outcome.code, code, str(outcome))
                self.assertIn(said, outcome.err)
                self.assertEqual(outcome.out, "")

    def test_bench_exchange_measures_and_checks(self):
        routings = ["balanced", "one_sided", "empty"]
        options = ["bench", "exchange", "--device", "cpu", "--tokens", "3,40", "--hidden", "64", "--experts", "8", "--top-k", "2", "--routings"]
        outcome = mpirun(2, *options, ",".join(routings), "--format", "json")
        self.assertEqual(outcome.code, 0, str(outcome))
        told = json.loads(outcome.out)  # of one rank
        self.assertEqual((told["ranks"], told["hidden"], told["experts"]), (2, 64, 8))
        rows = {(row["exchange"], row["tokens"], row["routing"]): row for row in told["rows"]}
        self.assertEqual(set(rows), set(itertools.product(exchanges_on("CPU"), [3, 40], routings)) | {("(MPI all-to-all)", n, "balanced") for n in (3, 40)})
        self.assertEqual({row["wrong_words"] for row in rows.values()}, {0})
        for (exchange, tokens, routing), row in rows.items():
            with self.subTest(exchange=exchange, tokens=tokens, routing=routing):
                self.assertGreater(row["dispatch_us"], 0)
                if exchange.startswith("("):
                    self.assertEqual({row[name] for name in ("combine_us", "host_us", "combine_gbs", "combine_bus_gbs", "dispatch_choices_gbs")}, {None})
                    self.assert_bandwidth(row, "dispatch", "bus", tokens * 256)  # to the other rank
                    continue
                self.assertEqual(row["combine_gbs"] > 0, routing != "empty")
                routed = 0 if routing == "empty" else tokens * 2 * 256  # rows to both ranks, and as many choices
                for call in ("dispatch", "combine"):
                    self.assert_bandwidth(row, call, "logical", routed)
                    self.assert_bandwidth(row, call, "bus", routed / 2)
                    self.assert_bandwidth(row, call, "choices", routed)
        # All tokens of rank 0 go to rank 1: 40 rows of 64 floats, and a little that says what they are.
        self.assertTrue(40 * 256e-6 < rows["ragged", 40, "one_sided"]["dispatch_mb"] < 40 * 320e-6)
        self.assert_chosen_by(told)
        cut = json.loads(mpirun(2, *options, "balanced", "--groups", "1,2,4", "--format", "json").out)
        groups = {(row["exchange"], row["tokens"], row["groups"]) for row in cut["rows"] if not row["exchange"].startswith("(")}
        self.assertEqual(groups, set(itertools.product(exchanges_on("CPU"), [3, 40], [1, 2, 4])))
        for row in cut["rows"]:
            self.assertEqual(row["wrong_words"], 0, row)
            if row["groups"] > 1:
                self.assertTrue(0 < row["first_dispatch_us"] < row["dispatch_us"], row)
                self.assertTrue(0 < row["first_combine_us"] < row["combine_us"], row)
        many = mpirun(2, *options, "balanced", "--groups", "2,5")
        self.assertEqual(many.code, 2, str(many))
        self.assertEqual(many.err.count("5 groups of the 4 experts of a rank; allowed: at most one group an expert"), 1, str(many))
        wrong = mpirun(2, *options, "even")
        self.assertEqual(wrong.code, 2, str(wrong))
        self.assertEqual(wrong.err.count("unknown routing 'even'; known: balanced, zipf, one_sided, empty"), 1, str(wrong))

    def assert_bandwidth(self, row, call, kind, wanted_bytes):
        self.assertAlmostEqual(row[f"{call}_{kind}_gbs"] * row[f"{call}_us"] * 1e3, wanted_bytes, delta=1, msg=str(row))

    def test_bench_exchange_counts_a_row_for_a_rank_not_for_a_choice(self):
        options = ["bench", "exchange", "--device", "cpu", "--tokens", "128", "--hidden", "64", "--experts", "16", "--top-k", "8", "--exchanges", "ragged"]
        row = json.loads(mpirun(2, *options, "--routings", "balanced", "--format", "json").out)["rows"][0]
        self.assert_bandwidth(row, "dispatch", "logical", 65536)
        self.assert_bandwidth(row, "combine", "bus", 32768)
        self.assert_bandwidth(row, "dispatch", "choices", 262144)
        table = mpirun(2, *options, "--routings", "balanced").out.splitlines()
        head = next(line for line in table if line.startswith("exchange "))
        columns = head.split()
        self.assertIn("dispatch_logical_gbs", columns)
        self.assertIn("combine_bus_gbs", columns)
        ceiling = next(line for line in table if line.startswith("(MPI all-to-all)")).replace("(MPI all-to-all)", "ceiling").split()
        self.assertEqual({ceiling[columns.index(name)] for name in ("combine_us", "host_us", "combine_gbs")}, {"-"})

    def test_bench_partition_is_of_gpus(self):
        for arguments, message in ((["--device", "cpu"], "device cpu; allowed: auto, cuda"), (["--tokens", "1,2"], "tokens; allowed: one number"),
                                   (["--comm-sms", "12"], "comm SMs; allowed: 0 (no bound), 1, 2, 4")):
            outcome = mpirun(2, "bench", "partition", *arguments)
            self.assertEqual((outcome.code, outcome.out), (2, ""), str(outcome))
            self.assertEqual(outcome.err.count(f"bench partition: {message}"), 1, str(outcome))
        if not any(name.startswith("cuda:") for name in json.loads(dovetail("info", "--format", "json").out)["devices"]):
            outcome = mpirun(2, "bench", "partition")
            self.assertEqual((outcome.code, outcome.out), (2, ""), str(outcome))
            self.assertRegex(outcome.err, r"this build is without CUDA|this process sees 0 for 2 ranks")

    def assert_chosen_by(self, told):
        """A run takes the exchange that a table of its machine has as the fastest; a table of another machine is refused."""
        arguments = ["experiments/quickstart.yaml", "--set", "execution.iterations=1", "--set", "execution.device=cpu", "--policy", "dual_batch"]
        for fast in ("gather", "ragged"):
            for row in told["rows"]:
                row["dispatch_us"] = 1.0 if row["exchange"] == fast else 1000.0
            table = self.write(json.dumps(told), f"{fast}.json")
            by = ["--set", f"execution.exchange={table}"]
            self.assertIn(f"exchange {fast}: auto by {table}, ", dovetail("check", *arguments[:-2], "--ranks", 2, *by).out)
        outcome = mpirun(2, "run", *arguments, *by, "--out", self.folder / "run")
        self.assertEqual(outcome.code, 0, str(outcome))
        with h5py.File(self.folder / "run" / "dual_batch" / "rank-00001.h5") as file:
            resolved = json.loads(file.attrs["resolved_execution"])
        self.assertEqual(resolved["exchange"], "ragged")
        self.assertRegex(resolved["exchange_reason"], r"^auto by .*, \d+ tokens: ragged \d+ us; gather \d+ us$")
        slow = json.loads(json.dumps(told))  # the faster dispatch, and rows that take long to arrange
        for row in slow["rows"]:
            row["dispatch_us"], row["arrange_us"] = (1.0, 5000.0) if row["exchange"] == "gather" else (1000.0, row["arrange_us"])
        all_calls = self.write(json.dumps(slow), "all_calls.json")
        self.assertIn("exchange ragged: auto by ", dovetail("check", *arguments[:-2], "--ranks", 2, "--set", f"execution.exchange={all_calls}").out)
        self.assert_auto_reads(told, arguments)
        table.write_text(json.dumps({**told, "device": "H100"}))
        refused = dovetail("check", *arguments[:-2], "--ranks", 2, *by)
        self.assertEqual(refused.code, 2, str(refused))
        self.assertIn("the table of exchanges is of another setting: device: measured with H100, this run has CPU", refused.err)
        table.write_text(json.dumps({**told, "ranks_per_host": 1}))
        refused = mpirun(2, "run", *arguments, *by, "--out", self.folder / "refused")
        self.assertEqual(refused.code, 2, str(refused))
        self.assertIn("ranks_per_host: measured with 1, this run has 2", refused.err)

    def assert_auto_reads(self, told, arguments):
        """`auto` chooses by its table, and by topology where the table is of another run; the record has both."""
        for row in told["rows"]:
            row["dispatch_us"] = 1.0 if row["exchange"] == "gather" else 1000.0
        table = self.write(json.dumps(told), "of_auto.json")
        by = ["--set", f"execution.exchange_table={table}"]
        check = ["check", *arguments[:-2], "--ranks", 2]
        self.assertIn(f"exchange gather: auto by {table}, ", dovetail(*check, *by).out)
        named = dovetail(*check, *by, "--set", "execution.exchange=ragged").out
        self.assertIn("; exchange ragged; ", named)
        self.assertNotIn("auto by", named)
        outcome = mpirun(2, "run", *arguments, *by, "--out", self.folder / "by_auto")
        self.assertEqual(outcome.code, 0, str(outcome))
        with h5py.File(self.folder / "by_auto" / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(json.loads(file.attrs["resolved_execution"])["exchange"], "gather")
            self.assertIn(f"exchange_table: {table}", file["config"][()].decode())
        table.write_text(json.dumps({**told, "device": "H100"}))
        self.assertRegex(dovetail(*check, *by).out, "exchange ragged: auto: on host ranks .*; not by the table: .*device: measured with H100, this run has CPU")
        table.write_text("{}")
        self.assertEqual(dovetail(*check, *by).code, 2)
        no_table = dovetail(*check, "--set", "execution.exchange_table=gather")
        self.assertEqual(no_table.code, 2)
        self.assertIn("execution.exchange_table: 'gather' is no table of times", no_table.err)

    def test_info_lists_the_keys(self):
        keys = {key["key"]: key for key in json.loads(dovetail("info", "--keys", "--format", "json").out)}
        self.assertEqual((keys["execution.iterations"]["values"], keys["execution.iterations"]["default"]), ("whole number from 1 to 1000000", "10"))
        self.assertEqual([keys[key]["in_policy"] for key in ("execution.dtype", "execution.graph_sizes")], [False, True])
        self.assertRegex(dovetail("info", "--keys").out, r"(?m)^execution.graph_sizes\n    values       auto or ")
        readme = (TOP / "experiments" / "README.md").read_text()
        self.assertIn(dovetail("info", "--keys", "--format", "markdown").out, readme)
        without_keys = dovetail("info", "--format", "markdown")
        self.assertEqual(without_keys.code, 2, str(without_keys))
        self.assertIn("allowed: table, json", without_keys.err)

    def test_check_shows_what_decides(self):
        told = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2).out
        self.assertRegex(told.splitlines()[0], r"^run: 2 ranks; cpu \(.+\); expert parallel 2 x data parallel 1; dtype float32; numerics fast; exchange ragged; ")
        self.assertIn("note: dtype is float32, and config.json says bfloat16: --set execution.dtype=bfloat16 takes that\n", told)
        self.assertIn("\nexchange ragged: auto: ", told)
        self.assertRegex(told.splitlines()[-1], "^not counted: other activations")
        same = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "execution.dtype=bfloat16").out
        self.assertNotIn("config.json", same)
        self.assertNotIn("routing is not recorded", told)
        self.assertIn("note: routing is not recorded: in bfloat16 routers choose otherwise at near ties", same)

    def test_check_says_which_requests_are_cut(self):
        report = json.loads(dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "workload.requests={lengths: [6, 10, 4]}",
                                     "--format", "json").out)
        of_rank = {policy["name"]: policy["requests_of_ubatches_by_rank"][0] for policy in report["policies"]}
        ids = [one["request"] for one in of_rank["sequential"][0]]
        self.assertEqual([(one["tokens"], one["cut"]) for one in of_rank["sequential"][0]], [(6, False), (10, False), (4, False)])
        self.assertEqual([[(one["request"], one["first_token"], one["tokens"], one["cut"]) for one in ubatch] for ubatch in of_rank["dual_batch"]],
                         [[(ids[0], 0, 6, False), (ids[1], 0, 4, True)], [(ids[1], 4, 6, True), (ids[2], 0, 4, False)]])

    def test_check_shows_what_auto_and_thresholds_decide(self):
        self.assertRegex(dovetail("check", "experiments/auto.yaml", "--ranks", 2).out,
                         r"(?m)^point \d+, policy auto: steps? \d.* runs? (dual_batch|sequential).*: the table says \d+\.\d+ ms with ubatches and \d+\.\d+ ms without")
        report = json.loads(dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "policies.dual_batch.thresholds={prefill: 5000}",
                                     "--format", "json").out)
        steps = {policy["name"]: [(step["runs"], step["reason"]) for step in policy["steps"]] for policy in report["policies"]}
        self.assertEqual(steps, {"sequential": [("sequential", "none")], "dual_batch": [("sequential", "below_threshold")],
                                 "dual_inline": [("dual_batch", "none")]})

    def test_check_compares_the_memory_with_what_is_there(self):
        check = ["check", "experiments/gpu_decode.yaml", "--ranks", 2]
        fits = dovetail(*check, "--gpu-memory-gib", 80)
        self.assertIn("\nmemory of each GPU: 80.00 GiB (--gpu-memory-gib)\n", fits.out)
        self.assertRegex(fits.out, r"(?m)^policy dual_eager: what is counted fits, needs \d+\.\d\d of 80.00 GiB; \d+\.\d\d GiB are left for what is not; "
                         r"the smallest expert_parallel that fits is 1 \(\d+\.\d\d GiB\)$")
        self.assertNotIn("warning", fits.out)
        short = dovetail(*check, "--gpu-memory-gib", 0.001)
        self.assertEqual(short.code, 0, str(short))
        self.assertRegex(short.out, r"(?m)^warning: policy dual_eager: does not fit, needs .* and would not with expert_parallel up to \d+$")
        on_host = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--gpu-memory-gib", 80).out
        self.assertIn("note: --gpu-memory-gib is not used", on_host)
        self.assertRegex(on_host, r"(?m)^memory of all ranks together, on one host: \d+\.\d\d GiB \(.+\)$")
        self.assertRegex(on_host, r"(?m)^policy sequential: what is counted fits, needs ")
        sweep = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--device", "cuda", "--gpu-memory-gib", 0.001, "--set",
                         "sweep={workload.seed: [1, 2]}")
        self.assertEqual(sweep.code, 0, str(sweep))
        self.assertRegex(sweep.out, r"(?m)^warning: point 1, policy dual_batch: does not fit, ")
        self.assertEqual(dovetail(*check, "--gpu-memory-gib", 0).code, 2)

    @unittest.skipIf("built without CUDA" not in dovetail("info").out, "this build runs on GPUs")
    def test_check_says_how_to_give_the_memory_of_gpus_that_are_not_there(self):
        report = json.loads(dovetail("check", "experiments/gpu_decode.yaml", "--ranks", 2, "--format", "json").out)["memory_fit"]
        self.assertEqual((report["bytes"], report["policies"]), (None, []))
        self.assertIn("\nmemory of each GPU: not known here; --gpu-memory-gib N says what fits into N GiB\n",
                      dovetail("check", "experiments/gpu_decode.yaml", "--ranks", 2).out)

    def test_check_and_plan_know_gpus_that_are_not_there(self):
        for arguments in (["experiments/gpu_decode.yaml"], ["experiments/quickstart.yaml", "--device", "cuda", "--set", "execution.dtype=bfloat16"]):
            with self.subTest(arguments=arguments):
                outcome = dovetail("check", *arguments, "--ranks", 64)
                self.assertEqual(outcome.code, 0, str(outcome))
                self.assertRegex(outcome.out, r"^run: 64 ranks; cuda \(64 x ")
                self.assertIn("note: planned for more GPUs than this machine has: ", outcome.out)
        self.assertEqual(dovetail("plan", "experiments/gpu_decode.yaml", "--policy", "dual_eager").code, 0)

    @unittest.skipIf("built without CUDA" not in dovetail("info").out, "this build runs on GPUs")
    def test_a_build_without_cuda_plans_and_does_not_run_on_gpus(self):
        self.assertIn("note: this build has no CUDA", dovetail("check", "experiments/gpu_quick.yaml", "--ranks", 2).out)
        outcome = mpirun(2, "run", "experiments/gpu_quick.yaml", "--out", self.folder / "run")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("cuda in a build without CUDA", outcome.err)

    def test_every_experiment_passes_the_check(self):
        for path in sorted((TOP / "experiments").glob("*.yaml")):
            with self.subTest(path=path.name):
                ranks = 4 if path.name == "uneven_ranks.yaml" else 2
                outcome = dovetail("check", path, "--ranks", ranks)
                self.assertEqual(outcome.code, 0, str(outcome))

    def test_compare_reports_a_run(self):
        run, _ = self.run_experiment(2, self.experiment(), "run")
        report = json.loads(dovetail("compare", run, "--baseline", "sequential", "--format", "json").out)
        names = [policy["name"] for policy in report["policies"]]
        self.assertEqual(sorted(names), sorted(["sequential", "shared_expert", "dual_batch", "dual_inline", "dual_gather", "dual_3"]))
        table = dovetail("compare", run)
        self.assertEqual(table.code, 0, str(table))

    def test_without_mpirun_a_run_has_one_rank(self):
        outcome = dovetail("run", self.experiment(ep=1), "--out", self.folder / "run")
        self.assertEqual(outcome.code, 0, str(outcome))


if __name__ == "__main__":
    unittest.main(verbosity=2)
