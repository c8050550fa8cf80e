#!/usr/bin/env python3
"""Policies that users bring as data, under mpirun: stage lists, schedule files, the choice by measured step times.

policies_test.py [unittest arguments]
"""
import json
import unittest

import h5py

from cli import TOP, CliTest, dovetail, mpirun, mpirun_apart

EXPERIMENT = """
experiment: policies
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: %(count)d, length: 16}, seed: 3%(workload)s}
execution: {warmup: 1, iterations: 2, timeout_s: 30%(execution)s}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
%(policies)s
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits]}
"""


class Policies(CliTest):
    def experiment(self, policies="", count=4, execution="", workload="", name="experiment.yaml"):
        fields = {"policies": policies, "count": count, "execution": execution, "workload": workload}
        return self.write(EXPERIMENT % fields, name)

    def edited_plan(self, edit):
        """dual_batch's schedule as a file, its ops changed by `edit` (waits are ops) and renumbered."""
        outcome = dovetail("plan", self.experiment(), "--policy", "dual_batch", "--format", "json")
        self.assertEqual(outcome.code, 0, str(outcome))
        plan = json.loads(outcome.out)
        ops = plan["ops"]
        for op in ops:
            op["waits"] = [ops[i] for i in op["waits"]]
        plan["ops"] = ops = edit(ops) or ops
        for index, op in enumerate(ops):
            op["op"] = index
        for op in ops:
            op["waits"] = sorted(wait["op"] for wait in op["waits"] if any(wait is other for other in ops))
        plan["schedule"] = "mine"
        return self.write(json.dumps(plan), "mine.json")

    @staticmethod
    def find(ops, phase, layer, ubatch):
        return next(op for op in ops if (op["phase"], op["layer"], op["ubatch"]) == (phase, layer, ubatch))

    def test_the_example_is_verified(self):
        run, outcome = self.run_experiment(2, "experiments/own_policy.yaml", "own", "--set", "execution.iterations=2",
                                           "--set", "record.timing=steps")
        self.assertEqual(outcome.out.count("verdict verified"), 5)
        with h5py.File(run / "half_a_layer_apart" / "rank-00000.h5") as file:
            self.assertTrue((file["timing/decision"][:, 0, 0] == 1).all())

    def test_an_edited_schedule_runs_and_is_verified(self):
        def later_shared_experts(ops):
            for layer in range(4):
                op = self.find(ops, "shared_experts", layer, 0)
                ops.remove(op)
                ops.insert(ops.index(self.find(ops, "experts", layer, 0)) + 1, op)

        path = self.edited_plan(later_shared_experts)
        run, _ = self.run_experiment(2, self.experiment(f"  - {{name: mine, schedule: {path}}}"), "run")
        self.assert_verified(run / "sequential", run / "mine")
        with h5py.File(run / "mine" / "rank-00001.h5") as file:
            self.assertEqual(file["schedule/0"].attrs["name"], "mine")

    def test_schedules_that_could_go_wrong_are_refused(self):
        def skip(ops):
            ops.remove(self.find(ops, "experts", 1, 1))

        def forget_wait(ops):
            self.find(ops, "experts", 2, 0)["waits"] = []

        def read_early(ops):
            first, second = self.find(ops, "attention", 1, 0), self.find(ops, "attention", 1, 1)
            ops.remove(second)
            ops.insert(ops.index(first), second)
            second["waits"] = [op for op in second["waits"] if ops.index(op) < ops.index(second)]

        def free_order(ops):
            for op in ops:  # one ubatch's exchange on the other lane, in no order with the first one's
                if op["ubatch"] == 1 and op["phase"] in ("dispatch", "combine"):
                    op["lane"] = "compute"
                    op["waits"] = []

        for edit, reason in ((skip, "experts of layer 1 of ubatch 1 is missing"), (forget_wait, "whose result it needs"),
                             (read_early, "attention, layer 1, ubatch [01]"), (free_order, "ranks could exchange in different orders|whose result")):
            path = self.edited_plan(edit)
            experiment = self.experiment(f"  - {{name: mine, schedule: {path}}}")
            for outcome in (mpirun(2, "run", experiment, "--out", self.folder / "run"), dovetail("check", experiment, "--ranks", 2)):
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.err, rf"policy mine: {path}: .*({reason})")
            self.assertFalse((self.folder / "run").exists())

    def table(self, plain_ms, candidate_ms, **setting):
        """A table of step times at 32 and 512 tokens of this experiment."""
        outcome = mpirun(2, "run", self.experiment("sweep: {workload.requests.count: [2]}"), "--out", self.folder / "sweep")
        self.assertEqual(outcome.code, 0, str(outcome))
        table = json.loads((self.folder / "sweep" / "sweep.json").read_text())["step_times"]
        table["setting"].update(setting)
        templates = {point["schedule"]: point for point in table["points"]}
        table["points"] = [{**templates[schedule], "tokens": tokens, "step_ms": ms}
                           for schedule, times in (("sequential", plain_ms), ("dual_batch", candidate_ms))
                           for tokens, ms in zip((32, 512), times)]
        return self.write(json.dumps(table), "table.json")

    def test_auto_follows_its_table(self):
        table = self.table(plain_ms=[1.0, 9.0], candidate_ms=[2.0, 8.0])
        policy = f"  - {{name: auto, table: {table}, ubatches: 2}}"
        for count, ubatched, reason in ((2, 0, 4), (32, 1, 0)):
            run, _ = self.run_experiment(2, self.experiment(policy, count=count), f"run-{count}")
            self.assert_verified(run / "sequential", run / "auto")
            with h5py.File(run / "auto" / "rank-00001.h5") as file:
                self.assertEqual(file["timing/decision"][:, 0, [0, 3]].tolist(), [[ubatched, reason]] * 2)
        # It may say "do not overlap" everywhere, and a threshold comes before the table.
        table = self.table_again(table, [1.0, 1.0], [2.0, 2.0])
        run, _ = self.run_experiment(2, self.experiment(policy, count=32), "never")
        decisions = json.loads((run / "auto" / "summary.json").read_text())["decisions"]
        self.assertIn("table_prefers_plain", json.dumps(decisions))

    def table_again(self, path, plain_ms, candidate_ms):
        table = json.loads(path.read_text())
        for point in table["points"]:
            times = plain_ms if point["schedule"] == "sequential" else candidate_ms
            point["step_ms"] = times[0] if point["tokens"] == 32 else times[1]
        path.write_text(json.dumps(table))
        return path

    def test_tables_of_other_conditions_are_refused(self):
        table = self.table(plain_ms=[1.0, 9.0], candidate_ms=[2.0, 8.0])
        policy = f"  - {{name: auto, table: {table}, ubatches: 2}}"
        for fields, reason in (({"execution": ", dtype: bfloat16"}, "dtype"), ({"execution": ", link: {gbytes_per_s: 1}"}, "link"),
                               ({"workload": ", routing: balanced"}, "routing"),
                               ({"policies": policy.replace("ubatches: 2", "ubatches: 3")}, "dual_batch.*3")):
            path = self.experiment(**{"policies": policy, **fields})
            outcome = mpirun(2, "run", path, "--out", self.folder / "refused")
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertRegex(outcome.err, reason)
            self.assertFalse((self.folder / "refused").exists())
            check = dovetail("check", path, "--ranks", 2)
            self.assertEqual(check.code, 2, str(check))
            self.assertRegex(check.err, reason)
        path = self.experiment(policies=policy)
        self.assertEqual(dovetail("check", path, "--ranks", 2).code, 0)
        check = dovetail("check", path, "--ranks", 4)
        self.assertEqual(check.code, 2, str(check))
        self.assertRegex(check.err, "policy auto: .*world_size: 2 in the table, 4 in this run")

    def test_a_sweep_over_stages_gives_a_curve_for_each(self):
        staged = "  - {name: staged, schedule: staged, stages: %s}"
        axes = "sweep: {policies.staged.stages: [prefill, decode], workload.requests.count: [2, 4]}"
        outcome = mpirun(2, "run", self.experiment(staged % "prefill" + "\n" + axes), "--out", self.folder / "sweep")
        self.assertEqual(outcome.code, 0, str(outcome))
        table = json.loads((self.folder / "sweep" / "sweep.json").read_text())["step_times"]
        points = [point for point in table["points"] if point["policy"] == "staged"]
        with h5py.File(self.folder / "sweep" / "point-0000" / "staged" / "rank-00000.h5") as file:
            digest = file["schedule/0"].attrs["digest"]
        self.assertEqual(len(points), 4)
        self.assertEqual([point["schedule_digest"] == digest for point in points], [True, True, False, False])
        auto = "  - {name: auto, candidate: staged, stages: %s, table: " + str(self.folder / "sweep" / "sweep.json") + "}"
        for stages, code in (("prefill", 0), ("decode", 0), ("{moe: [[attention, route, dispatch], [shared_experts, experts, combine]]}", 2)):
            check = dovetail("check", self.experiment(auto % stages), "--ranks", 2)
            self.assertEqual(check.code, code, str(check))
            self.assertRegex(check.err, "no point for staged of digest" if code else "^$")

    def assert_refused_apart(self, folders, policies, expected):
        path = self.experiment(policies)
        path.write_text(path.read_text().replace("models/configs", f"{TOP}/models/configs"))
        outcome = mpirun_apart(folders, "run", path, "--out", self.folder / "apart")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertEqual(outcome.err.count(expected), 1, str(outcome))
        self.assertFalse((self.folder / "apart").exists())

    def test_ranks_that_read_other_files_are_refused(self):
        plans = [dovetail("plan", self.experiment("  - {name: staged, stages: %s}" % preset), "--policy", "staged", "--format", "json")
                 for preset in ("prefill", "decode")]
        schedules = [plan.out for plan in plans]
        self.assertNotEqual(*schedules, str(plans[0]))
        folders = self.write_apart("own.json", *schedules)
        self.assert_refused_apart(folders, "  - {name: mine, schedule: own.json}",
                                  "policy mine: ranks read different contents of own.json")
        table = self.table(plain_ms=[1.0, 9.0], candidate_ms=[2.0, 8.0]).read_text()
        folders = self.write_apart("table.json", table, table.replace("9.0", "9.5"))
        self.assert_refused_apart(folders, "  - {name: mine, schedule: auto, table: table.json}",
                                  "policy mine: ranks read different contents of table.json")
        # Twin: the same contents in each folder.
        folders = self.write_apart("own.json", schedules[0], schedules[0])
        path = self.experiment("  - {name: mine, schedule: own.json}")
        path.write_text(path.read_text().replace("models/configs", f"{TOP}/models/configs"))
        outcome = mpirun_apart(folders, "run", path, "--out", self.folder / "same")
        self.assertEqual(outcome.code, 0, str(outcome))

    def test_files_of_values_deep_within_each_other_are_refused(self):
        deep = self.write("[" * 60000 + "]" * 60000, "deep.json")
        for policy in (f"{{name: mine, schedule: {deep}}}", f"{{name: mine, schedule: auto, table: {deep}}}"):
            path = self.experiment(f"  - {policy}")
            for outcome in (mpirun(2, "run", path, "--out", self.folder / "refused"), dovetail("check", path, "--ranks", 2)):
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.err, f"policy mine: {deep}: line 1, byte 16: values too deep")


if __name__ == "__main__":
    unittest.main(verbosity=2)
