#!/usr/bin/env python3
"""Sweeps and emulated links from the command line: what a sweep leaves, what it refuses, and how it goes on after an end in the middle.

sweep_test.py [unittest arguments]; cli.py has the environment.
"""
import csv
import hashlib
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

from cli import BIN, MPIRUN, TOP, CliTest, dovetail, execute

LINK = "emulated: 20 us, 0.5 GB/s"

BASE = """
experiment: small
model: {architecture: qwen3_moe, config: tests/fixtures/qwen3-moe-tiny/config.json, weights: {checkpoint: tests/fixtures/qwen3-moe-tiny}}
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: 2, length: 12}, seed: 9}
execution: {warmup: 0, iterations: 2, timeout_s: 20}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits]}
"""


def digests(folder):
    """Name and content of every file, and when it was last written."""
    return {str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
            for path in sorted(folder.rglob("*")) if path.is_file()}


class SweepTest(CliTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "out"

    def file(self, axes="", base=BASE):
        return self.write(base + (f"sweep:\n{axes}" if axes else ""), "sweep.yaml")

    def command(self, path, *arguments, ranks=2, out=None):
        return [*MPIRUN, "-np", str(ranks), BIN, "run", str(path), "--out", str(out or self.out), *map(str, arguments)]

    def run_sweep(self, path, *arguments, code=0, **options):
        outcome = execute(self.command(path, *arguments, **options), limit_s=120)
        self.assertEqual(outcome.code, code, str(outcome))
        return outcome

    def read(self):
        return json.loads((self.out / "sweep.json").read_text())

    def summary(self, point, row):
        return json.loads((self.out / point["folder"] / row["policy"] / "summary.json").read_text())

    def statuses(self):
        return [point["status"] for point in self.read()["points"]]

    def folders(self):
        return sorted(path.name for path in self.out.iterdir() if path.is_dir())


class Sweeps(SweepTest):
    def test_points_are_ordinary_runs_and_make_one_table(self):
        path = self.file("  workload.requests.count: [1, 3]\n  policies.dual_batch.ubatches: [2, 3]\n")
        outcome = self.run_sweep(path, "--set", "record.timing=ops", "--set", "record.profiled_iterations=1")
        self.assertEqual(self.folders(), ["point-0000", "point-0001", "point-0002", "point-0003"])
        sweep = self.read()
        self.assertEqual(sweep["keys"], ["workload.requests.count", "policies.dual_batch.ubatches"])
        self.assertEqual([[point["values"][key] for key in sweep["keys"]] for point in sweep["points"]], [[1, 2], [1, 3], [3, 2], [3, 3]])
        self.assertEqual(self.statuses(), ["complete"] * 4)
        for number, point in enumerate(sweep["points"]):
            count, ubatches = (1, 1, 3, 3)[number], (2, 3)[number % 2]
            rows = {row["policy"]: row for row in point["policies"]}
            self.assertEqual({name: row["verdict"] for name, row in rows.items()}, {"sequential": "baseline", "dual_batch": "verified"})
            self.assertEqual(rows["dual_batch"]["ubatches"], ubatches)
            self.assertEqual(rows["dual_batch"]["tokens"], [12 * count, 24 * count])
            summary = json.loads((self.out / point["folder"] / "dual_batch" / "summary.json").read_text())
            self.assertEqual(rows["dual_batch"]["step_ns"], summary["step_ns"])
            self.assertEqual(rows["dual_batch"]["hidden_share"], summary["metrics"]["hidden_share"])
            self.assertAlmostEqual(rows["dual_batch"]["speed_up"],
                                   rows["sequential"]["step_ns"]["p50"] / rows["dual_batch"]["step_ns"]["p50"])
        # The same point as a run of its own: the same experiment, the same outputs to the bit.
        alone = self.folder / "alone"
        self.run_sweep(self.file(), "--set", "workload.requests.count=3", "--set", "policies.dual_batch.ubatches=3", "--set",
                       "record.timing=ops", "--set", "record.profiled_iterations=1", out=alone)
        point = self.out / "point-0003"
        self.assertEqual((alone / "experiment.yaml").read_text(), (point / "experiment.yaml").read_text())
        verify = dovetail("verify", alone / "dual_batch", point / "dual_batch", "--mode", "bitwise")
        self.assertEqual(verify.code, 0, str(verify))
        # One table, on the screen, in CSV and again by compare.
        table = outcome.out[outcome.out.index(f"results {self.out}\n"):].splitlines()
        flags = [line for line in table[1 + 3 + 8:] if line]  # what is to be taken with care: a machine is rarely quiet
        self.assertTrue(not flags or flags[0].startswith("To be taken with care"), "\n".join(table))
        self.assertTrue(all(re.fullmatch(r"  \w+: point \d \(.*\)", line) for line in flags[1:]), "\n".join(table))
        for point in sweep["points"]:
            self.assertEqual(point["notes"], [note for row in point["policies"] for note in self.summary(point, row)["notes"]])
            self.assertEqual([[flag for flag in row["flags"] if flag not in ("one_round", "other_runs")] for row in point["policies"]],  # summaries without verify know no baseline
                             [self.summary(point, row)["flags"] for row in point["policies"]])
        self.assertEqual(dovetail("compare", self.out).out.splitlines(), table[1:])
        self.assertEqual(json.loads(dovetail("compare", self.out, "--format", "json").out), sweep)
        with open(self.out / "sweep.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 8)
        self.assertEqual([row["workload.requests.count"] for row in rows], ["1"] * 4 + ["3"] * 4)
        for row in rows:
            step = next(one for one in sweep["points"][int(row["point"])]["policies"] if one["policy"] == row["policy"])["step_ns"]
            self.assertAlmostEqual(float(row["p50_ms"]), step["p50"] / 1e6)

    def test_policies_and_grids_are_axes(self):
        path = self.file("  parallel.expert_parallel: [1, 2]\n  policies: [sequential, [dual_batch]]\n")
        self.run_sweep(path)
        points = self.read()["points"]
        self.assertEqual([[row["policy"] for row in point["policies"]] for point in points],
                         [["sequential"], ["sequential", "dual_batch"]] * 2)  # the baseline is always there
        self.assertEqual([point["status"] for point in points], ["complete"] * 4)
        with h5py.File(self.out / "point-0003" / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["expert_parallel"], 2)
        with h5py.File(self.out / "point-0001" / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["expert_parallel"], 1)

    def test_a_model_that_changes_is_loaded_again(self):
        path = self.file("  model.weights: [{seed: 1}, {seed: 1}, {seed: 2}]\n  execution.dtype: [float32, bfloat16]\n")
        self.run_sweep(path, "--set", "verify.mode=none", "--set", "sweep_unchanged=measure_again", "--policy", "sequential")
        self.assertEqual(self.statuses(), ["complete"] * 6)
        weights, dtypes = [], []
        for number in range(6):
            with h5py.File(self.out / f"point-{number:04}" / "sequential" / "rank-00000.h5") as file:
                weights.append(file.attrs["weights_digest"])
                dtypes.append(file.attrs["dtype"])
        self.assertEqual(dtypes, ["float32", "bfloat16"] * 3)
        self.assertEqual(weights[0], weights[2])
        self.assertNotEqual(weights[0], weights[4])

    def test_a_decode_step_is_described_by_its_tokens_and_contexts(self):
        # Contexts of 10 and 20 tokens, three steps of one token: 11 and 21 in the mean.
        path = self.file("  workload.requests: [{count: 2, context_length: 10}, {context_lengths: [10, 20, 20]}]\n")
        self.run_sweep(path, "--set", "workload.phase=decode", "--set", "workload.steps=3")
        rows = [point["policies"][1] for point in self.read()["points"]]
        self.assertEqual([row["tokens"] for row in rows], [[2, 4], [3, 6]])
        self.assertEqual([row["one_token_each"] for row in rows], [True, True])
        self.assertAlmostEqual(rows[0]["context_tokens"], 11)
        self.assertAlmostEqual(rows[1]["context_tokens"], (11 + 21 + 21) / 3)
        self.assertEqual(rows[0]["step_ns"]["count"], 2, "iterations, of three steps each")

    def test_the_step_times_are_a_table_for_auto(self):
        policies = "  - {name: vetoed, schedule: dual_batch, thresholds: {prefill: 100}}\n  - {name: inline, schedule: dual_batch, hand_off: inline}\n"
        base = BASE.replace("verify:", policies + "verify:")
        path = self.file("  workload.requests.count: [1, 4]\n  execution.exchange: [gather, ragged]\n", base=base)
        self.run_sweep(path)
        sweep = self.read()
        table = sweep["step_times"]
        self.assertEqual(table["setting"]["exchange"], "gather")  # of the first point
        self.assertEqual(table["setting"]["world_size"], 2)
        expected = [(row["policy"], row["tokens"][0], row["step_ns"]["p50"] / 1e6) for point in (sweep["points"][0], sweep["points"][2])
                    for row in point["policies"] if row["policy"] in ("sequential", "dual_batch")]
        self.assertEqual([(point["policy"], point["tokens"]) for point in table["points"]], [one[:2] for one in expected])
        for point, one in zip(table["points"], expected):
            self.assertAlmostEqual(point["step_ms"], one[2])
        auto = BASE.replace("verify:", f"  - {{name: auto, table: {self.out / 'sweep.json'}}}\nverify:")
        chosen = self.folder / "chosen"
        self.run_sweep(self.file(base=auto), "--policy", "auto", "--set", "execution.exchange=gather", out=chosen)
        with h5py.File(chosen / "auto" / "rank-00000.h5") as file:
            times = {(point["policy"], point["tokens"]): point["step_ms"] for point in table["points"]}
            faster = [(times["dual_batch", tokens], times["sequential", tokens]) for tokens in (12, 48)]
            if all(dual < plain for dual, plain in faster) or all(dual > plain for dual, plain in faster):  # between them it is decided
                self.assertEqual(set(file["timing/decision"][:, 0, 0]), {int(faster[0][0] < faster[0][1])})
        self.run_sweep(self.file(base=auto), "--policy", "auto", "--set", "execution.exchange=ragged", out=self.folder / "other", code=2)

    def test_check_and_sweep_table_of_a_sweep(self):
        path = self.file("  workload.requests.count: [1, 3]\n  execution.exchange: [gather, ragged]\n")
        check = dovetail("check", path, "--ranks", 2, "--format", "json")
        self.assertEqual(check.code, 0, str(check))
        points = json.loads(check.out)["points"]
        self.assertEqual([point["check"]["grid"]["ranks"][1]["tokens"] for point in points], [12, 12, 36, 36])
        self.assertEqual([point["check"]["policies"][0]["exchange"] for point in points], ["gather", "ragged"] * 2)
        self.assertRegex(dovetail("check", path, "--ranks", 2).out, r"4 points")
        self.assertNotIn("measured once", dovetail("check", path, "--ranks", 2).out)

    def test_compare_takes_a_baseline_of_each_point(self):
        self.run_sweep(self.file("  workload.seed: [1, 2]\n"))
        points = json.loads(dovetail("compare", self.out, "--baseline", "dual_batch", "--format", "json").out)["points"]
        for point in points:
            p50 = {row["policy"]: row["step_ns"]["p50"] for row in point["policies"]}
            self.assertEqual({row["policy"]: row["speed_up"] for row in point["policies"]},
                             {"sequential": p50["dual_batch"] / p50["sequential"], "dual_batch": 1})
        self.assertIn("speed-up over dual_batch of the point", dovetail("compare", self.out, "--baseline", "dual_batch").out)
        outcome = dovetail("compare", self.out, "--baseline", "duel_batch")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("no point has run a policy 'duel_batch'; there are: sequential, dual_batch", outcome.err)


class Links(SweepTest):
    def test_every_output_names_an_emulated_link(self):
        path = self.file("  execution.link: [{latency_us: 20, gbytes_per_s: 0.5}]\n")
        outcome = self.run_sweep(path, "--set", "record.timing=ops", "--set", "record.profiled_iterations=1")
        self.assertEqual(outcome.out.count(f"Link {LINK}\n"), 2, str(outcome))  # the point's lines and the table
        policy = self.out / "point-0000" / "dual_batch"
        for rank in (0, 1):
            with h5py.File(policy / f"rank-0000{rank}.h5") as file:
                self.assertEqual(file.attrs["link"], LINK)
        with h5py.File(policy / "view.h5") as file:
            self.assertEqual(file.attrs["link"], LINK)
        self.assertEqual(json.loads((policy / "summary.json").read_text())["link"], LINK)
        trace = json.loads((policy / "trace.json").read_text())
        self.assertEqual(trace["otherData"]["link"], LINK)
        self.assertTrue(any(event["name"] == "process_name" and f"link {LINK}" in event["args"]["name"] for event in trace["traceEvents"]))
        for outcome in (dovetail("compare", policy.parent), dovetail("compare", self.out), dovetail("check", path, "--ranks", 2)):
            self.assertIn(f"Link {LINK}\n", outcome.out, str(outcome))
        self.assertIn(f"link {LINK}", dovetail("verify", policy.parent / "sequential", policy).out)
        self.assertEqual(self.read()["points"][0]["policies"][0]["link"], LINK)
        self.assertIn(LINK, (self.out / "sweep.csv").read_text())

    def test_without_one_nothing_does(self):
        outcome = self.run_sweep(self.file("  workload.seed: [1]\n"))
        self.assertNotIn("Link", outcome.out)
        with h5py.File(self.out / "point-0000" / "dual_batch" / "rank-00000.h5") as file:
            self.assertEqual(file.attrs["link"], "none")

    def test_a_rank_without_peers_has_none(self):
        path = self.file(base=BASE.replace("expert_parallel: 2", "expert_parallel: 1"))
        outcome = self.run_sweep(path, "--set", "execution.link={latency_us: 3000, gbytes_per_s: 1}")
        self.assertNotIn("Link", outcome.out)
        policy = self.out / "dual_batch"
        self.assertEqual(json.loads((policy / "summary.json").read_text())["link"], "none")
        for name in ("rank-00001.h5", "view.h5"):
            with h5py.File(policy / name) as file:
                self.assertEqual(file.attrs["link"], "none")

    def test_two_links_are_a_column(self):
        path = self.file("  execution.link: [none, {latency_us: 20, gbytes_per_s: 0.5}]\n")
        table = self.run_sweep(path).out.split(f"results {self.out}\n")[1].splitlines()
        self.assertEqual(table[0], "Link emulated: see the column link")
        self.assertRegex(table[7], f"{LINK}$")
        self.assertRegex(table[5], "none$")

    def test_an_exchange_lasts_as_long_as_the_link_says(self):
        # 3 ms of latency in each of 2 exchanges of each MoE layer: a fact, not a timing.
        self.run_sweep(self.file(), "--set", "execution.link={latency_us: 3000, gbytes_per_s: 1}", "--policy", "sequential")
        with h5py.File(self.out / "sequential" / "rank-00000.h5") as file:
            phases = [phase.decode() if isinstance(phase, bytes) else phase for phase in file["schedule/0"]["phase"]]
            exchanges = phases.count("dispatch") + phases.count("combine")
            self.assertGreater(exchanges, 0)
            self.assertGreaterEqual(file["timing/step_ns"][:].min(), exchanges * 3_000_000)

    def test_a_link_slower_than_the_time_out_ends_the_run(self):
        outcome = self.run_sweep(self.file(), "--set", "execution.link={latency_us: 1000000, gbytes_per_s: 0.001}", "--set",
                                 "execution.timeout_s=1", "--set", "workload.requests.length=600", code=3)
        self.assertIn("the emulated link needs", outcome.err)


class Resume(SweepTest):
    LONG = "  workload.seed: [1, 2, 3]\n"
    MANY = ("--set", "execution.iterations=800", "--set", "verify.mode=none", "--policy", "sequential")

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
        self.assertRegex(self.read()["points"][1]["problem"], r"sequential: .*asked to stop after \d+ of 800 timed iterations")
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


class Ends(SweepTest):
    def test_a_mismatch_goes_on_and_the_sweep_ends_with_4(self):
        # A ubatch of one token multiplies vectors instead of matrices: not equal to the bit.
        path = self.file("  policies.dual_batch.split: [{sizes: [1, 0]}, request]\n  verify.mode: [bitwise, tolerance]\n")
        outcome = self.run_sweep(path, code=4)
        self.assertEqual(self.statuses()[0], "mismatch", str(outcome))
        self.assertEqual([self.statuses()[1], self.statuses()[3]], ["complete", "complete"])
        row = self.read()["points"][0]["policies"][1]
        self.assertEqual((row["verdict"], row["step_ns"], row["speed_up"]), ("mismatch", None, None))
        self.run_sweep(path, code=4)  # what mismatched runs again
        self.assertEqual(self.read()["points"][0]["folder"], "point-0000.retry1")

    def test_a_failure_ends_the_sweep_with_3_and_leaves_what_was_finished(self):
        fault = "{kind: exception, rank: 1, ubatch: 0, layer: 0, phase: experts, iteration: 1}"
        path = self.file(f"  fault: [none, {fault}, none]\n")
        outcome = self.run_sweep(path, code=3)
        self.assertIn("injected fault", outcome.err)
        self.assertEqual(self.statuses(), ["complete", "running", "pending"])
        self.assertEqual(self.folders(), ["point-0000", "point-0001"])
        before = digests(self.out / "point-0000")
        self.run_sweep(path, code=3)
        self.assertEqual(digests(self.out / "point-0000"), before)
        self.assertEqual(self.folders(), ["point-0000", "point-0001", "point-0001.retry1"])

    def test_bad_input_that_only_the_run_can_find_names_the_point(self):
        path = self.file(f"  model.config: [tests/fixtures/qwen3-moe-tiny/config.json, {self.folder}/none.json]\n")
        outcome = self.run_sweep(path, code=2)
        self.assertRegex(outcome.err, r"none.json.*\(point 1 of the sweep \(model.config = ")
        self.assertEqual(self.statuses(), ["complete", "incomplete"])
        self.assertIn("none.json", self.read()["points"][1]["problem"])


class RefusingSweeps(SweepTest):
    def refuse(self, expected, path, *arguments, **options):
        outcome = self.run_sweep(path, *arguments, code=2, **options)
        said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]
        self.assertEqual(len([line for line in said if re.search(expected, line)]), 1, f"want once: {expected}\n{outcome}")


class RefusedSweep(RefusingSweeps):
    """One of the cases of RefusedSweeps, which takes minutes."""

    def test_a_bad_point_before_the_first_one_runs(self):
        self.refuse(r"unknown exchange 'pigeon'.*\(point 1 of the sweep \(execution.exchange = pigeon\)\)",
                    self.file("  execution.exchange: [gather, pigeon]\n"))
        self.assertFalse(self.out.exists())


class RefusedSweeps(RefusingSweeps):
    def test_any_bad_point_before_the_first_one_runs(self):
        for expected, axes in (
            (r"sweep.yaml:13:35: workload.requests.count: expected a whole number.*point 2 of the sweep",
             "  workload.requests.count: [1, 2, many]\n"),
            (r"unknown exchange 'pigeon'.*\(point 1 of the sweep \(execution.exchange = pigeon\)\)",
             "  execution.exchange: [gather, pigeon]\n"),
            (r"unknown key 'iteration'", "  execution.iteration: [1]\n"),
            (r"unknown policy 'triple'", "  policies: [sequential, triple]\n"),
            (r"expected a list of at least one value", "  workload.seed: []\n"),
            (r"duplicate key", "  workload.seed: [1]\n  workload.seed: [2]\n"),
            (r"more than 10000 points", f"  workload.seed: {list(range(101))}\n  execution.warmup: {list(range(100))}\n"),
            (r"2 ranks is no multiple of 4.*point 1 of", "  parallel.expert_parallel: [2, 4]\n"),
        ):
            with self.subTest(axes=axes):
                self.refuse(expected, self.file(axes))
                self.assertFalse(self.out.exists())

    def test_a_swept_key_on_the_command_line(self):
        path = self.file("  workload.seed: [1, 2]\n")
        self.refuse(r"--set workload.seed=7: 'workload.seed' is swept", path, "--set", "workload.seed=7")

    def test_folders_of_others_stay_as_they_are(self):
        path = self.file("  workload.seed: [1, 2]\n")
        self.run_sweep(path)
        before = digests(self.out)
        self.refuse("holds the results of another experiment", path, "--set", "execution.iterations=3")
        self.refuse("holds the results of another experiment", path, "--policy", "dual_batch")
        self.refuse("begun on 2 ranks, these are 4", path, ranks=4)
        self.refuse("not empty", self.file())  # one run
        self.assertEqual(digests(self.out), before)
        alone = self.folder / "alone"
        self.run_sweep(self.file(), out=alone)
        self.refuse("holds the results of another experiment", self.file("  workload.seed: [1, 2]\n"), out=alone)
        precious = self.folder / "precious"
        precious.mkdir()
        (precious / "precious.txt").write_text("precious")
        self.refuse("not empty", self.file("  workload.seed: [1, 2]\n"), out=precious)
        self.assertEqual([one.name for one in precious.iterdir()], ["precious.txt"])

    def test_compare_takes_a_sweep_alone_and_reads_it_strictly(self):
        self.run_sweep(self.file("  workload.seed: [1]\n"))
        self.assertEqual(dovetail("compare", self.out, self.out / "point-0000").code, 2)
        self.assertEqual(dovetail("compare", self.out / "point-0000").code, 0)
        good = (self.out / "sweep.json").read_text()
        for damaged in ("{", "[]", good.replace('"keys"', '"kees"'), good.replace('"complete"', '"splendid"'), good.replace('"version": 2', '"version": 9')):
            self.assertNotEqual(damaged, good)
            (self.out / "sweep.json").write_text(damaged)
            outcome = dovetail("compare", self.out)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertIn("sweep.json", outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
