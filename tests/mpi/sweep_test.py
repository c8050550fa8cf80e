#!/usr/bin/env python3
"""Sweeps and emulated links from the command line: what a sweep leaves.

sweep_test.py [unittest arguments]; cli.py has the environment.
"""
import csv
import json
import re
import unittest

import h5py

from cli import dovetail
from sweep_case import BASE, LINK, SweepTest


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


if __name__ == "__main__":
    unittest.main(verbosity=2)
