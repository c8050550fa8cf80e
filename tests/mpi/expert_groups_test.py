#!/usr/bin/env python3
"""The policy expert_groups, and staged with groups, under mpirun: bits, schedule files, failures, faults and records.

expert_groups_test.py [unittest arguments]
"""
import json
import unittest

import h5py

from cli import CliTest, dovetail, mpirun

EXPERIMENT = """
experiment: expert_groups
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {lengths: [37, 1, 24]}, seed: 3}
execution: {warmup: 1, iterations: 2, timeout_s: 30%(execution)s}
policies:
  - {name: sequential}
%(policies)s
verify: {baseline: sequential, mode: %(mode)s}
record: {outputs: [hidden, logits], timing: ops, profiled_iterations: 1}
%(more)s
"""
POLICIES = """  - {name: two, schedule: expert_groups}
  - {name: four, schedule: expert_groups, groups: 4, exchange: gather, hand_off: inline}
  - {name: eight, schedule: expert_groups, groups: 8}
  - {name: uneven, schedule: expert_groups, groups: 3}
"""
# A preset, one ubatch whose list names groups out of step with one another, and two.
LIST = ("{moe: [[attention, route, dispatch g0], [dispatch g1, experts g0], [dispatch g2, {combine g0: compute}, experts g1, combine g1], [],"
        " [experts g2, combine g2, shared_experts]], delta: 1}")
STAGED = f"""  - {{name: staged_one, schedule: staged, stages: prefill, ubatches: 1, groups: 4}}
  - {{name: staged_list, schedule: staged, stages: {LIST}, ubatches: 1, groups: 3}}
"""


class ExpertGroups(CliTest):
    def experiment(self, policies=POLICIES, execution="", mode="bitwise", more="", name="experiment.yaml"):
        return self.write(EXPERIMENT % {"policies": policies, "execution": execution, "mode": mode, "more": more}, name)

    def test_with_one_ubatch_the_bits_are_those_of_sequential(self):
        """Also with fast numerics: each expert gets the rows that it gets without groups, in one order."""
        for dtype in ("float32", "bfloat16"):
            path = self.experiment(POLICIES + STAGED, execution=f", dtype: {dtype}", name=f"{dtype}.yaml")
            _, outcome = self.run_experiment(2, path, dtype)
            self.assertEqual(outcome.out.count("verdict verified"), 6, str(outcome))

    def test_groups_are_recorded_and_traced(self):
        run, _ = self.run_experiment(2, self.experiment(), "recorded")
        with h5py.File(run / "eight" / "rank-00000.h5") as file:
            table = file["schedule/0"][:]
            experts = [int(op["group"]) for op in table if op["phase"] in (b"experts", "experts") and int(op["layer"]) == 0]
            self.assertEqual(experts, list(range(8)))
            self.assertEqual({int(op["group"]) for op in table if op["phase"] in (b"attention", "attention")}, {-1})
            num_ops = len(table)
            self.assertTrue((file["timing/ops"][0, :num_ops] > 0).all())
        trace = json.loads((run / "eight" / "trace.json").read_text())
        names = {event["name"] for event in trace["traceEvents"]}
        self.assertLessEqual({"dispatch l0 u0 g7", "experts l3 u0 g0", "combine l1 u0 g3"}, names)

    def test_a_schedule_file_keeps_its_groups(self):
        plan = dovetail("plan", self.experiment(), "--policy", "four", "--format", "json")
        self.assertEqual(json.loads(plan.out)["num_groups"], 4)
        mine = self.write(plan.out.replace('"schedule": "expert_groups"', '"schedule": "mine"'), "mine.json")
        _, outcome = self.run_experiment(2, self.experiment(f"  - {{name: mine, schedule: {mine}}}\n"), "file")
        self.assertEqual(outcome.out.count("verdict verified"), 1, str(outcome))
        late = json.loads(plan.out)
        op = next(op for op in late["ops"] if op["phase"] == "experts" and op["group"] == 3)
        op["waits"] = []
        wrong = self.write(json.dumps(late), "wrong.json")
        outcome = dovetail("check", self.experiment(f"  - {{name: mine, schedule: {wrong}}}\n"), "--ranks", "2")
        self.assertEqual(outcome.code, 2)
        self.assertIn("(dispatch, layer 0, ubatch 0, group 3) is done", outcome.err)

    def test_stages_of_groups_are_planned_and_kept_in_a_file(self):
        path = self.experiment(STAGED)
        plan = dovetail("plan", path, "--policy", "staged_list", "--format", "json")
        ops = [(op["phase"], op.get("group")) for op in json.loads(plan.out)["ops"] if op["layer"] == 0]
        self.assertEqual(ops, [("attention", None), ("route", None), ("dispatch", 0), ("dispatch", 1), ("experts", 0), ("dispatch", 2), ("combine", 0),
                               ("experts", 1), ("combine", 1), ("experts", 2), ("combine", 2), ("shared_experts", None)])
        self.assertIn("experts in 3 groups", dovetail("plan", path, "--policy", "staged_list").out)
        mine = self.write(plan.out.replace('"schedule": "staged"', '"schedule": "mine"'), "mine.json")
        _, outcome = self.run_experiment(2, self.experiment(f"  - {{name: mine, schedule: {mine}}}\n"), "file")
        self.assertEqual(outcome.out.count("verdict verified"), 1, str(outcome))

    def test_a_failure_names_the_group(self):
        more = "fault: {kind: exception, rank: 1, layer: 2, phase: experts, group: 5, iteration: 1, policy: eight}"
        outcome = mpirun(2, "run", self.experiment(more=more), "--out", self.folder / "failed")
        self.assertEqual(outcome.code, 3)
        self.assertIn("rank 1, ubatch 0, layer 2, phase experts, group 5: injected fault", outcome.err)

    def test_rows_of_one_group_that_do_not_arrive_are_noticed(self):
        for phase in ("dispatch", "combine"):
            more = f"fault: {{kind: stale_buffer, rank: 0, layer: 1, phase: {phase}, group: 1, iteration: 2, policy: two}}"
            outcome = mpirun(2, "run", self.experiment(more=more, name=f"{phase}.yaml"), "--out", self.folder / phase, "--allow-fault", "stale_buffer")
            self.assertEqual(outcome.code, 4, str(outcome))
            self.assertEqual(outcome.out.count("verdict verified"), 3, str(outcome))

    def test_what_cannot_be_cut_is_refused(self):
        for policies, says in (("groups: 4, name: a, schedule: dual_batch", "allowed: only with expert_groups, staged"),
                               ("groups: 9, name: a, schedule: expert_groups", "groups")):
            outcome = dovetail("check", self.experiment(f"  - {{{policies}}}\n"), "--ranks", "2")
            self.assertEqual(outcome.code, 2)
            self.assertIn(says, outcome.err)
        outcome = dovetail("check", self.experiment("  - {name: a, schedule: expert_groups, groups: 8}\n"), "--ranks", "4",
                           "--set", "parallel.expert_parallel=4")
        self.assertEqual(outcome.code, 2)
        self.assertIn("policy a: 8 groups of experts: a rank has 4 experts; allowed: at most one group an expert", outcome.err)
        on_gpus = ("--ranks", "2", "--set", "execution.device=cuda", "--gpu-memory-gib", "80")
        outcome = dovetail("check", self.experiment("  - {name: a, schedule: expert_groups, exchange: padded}\n"), *on_gpus)
        self.assertEqual(outcome.code, 2)
        self.assertIn("policy a: 2 groups of experts: exchange 'padded' on GPUs takes the experts of a rank as one; allowed: symmetric", outcome.err)
        outcome = dovetail("check", self.experiment("  - {name: a, schedule: staged, stages: prefill, groups: 2, exchange: padded}\n"), *on_gpus)
        self.assertEqual(outcome.code, 2)
        self.assertIn("policy a: 2 groups of experts: exchange 'padded' on GPUs takes the experts of a rank as one; allowed: symmetric", outcome.err)
        outcome = dovetail("check", self.experiment("  - {name: a, schedule: expert_groups}\n"), *on_gpus)
        self.assertEqual(outcome.code, 0, str(outcome))


if __name__ == "__main__":
    unittest.main()
