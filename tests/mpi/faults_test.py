#!/usr/bin/env python3
"""Data faults under mpirun: each is caught, in the right place; the same policy without one is verified; none comes without being asked for.

faults_test.py [unittest arguments]
"""
import json
import re
import time
import unittest

import h5py
import numpy as np

from cli import CliTest, dovetail, mpirun
from fault_cases import (EARLY, ITERATIONS, LAST, LENGTHS, MIDDLE, RIGHT, TOKEN, WARMUP, allow, cases, cut_experiment, endings, expected_layer, experiment,
                         first_wrong, verification, waits)

START = sum(LENGTHS) // 2  # of the second ubatch


class Faulty(CliTest):
    def plant(self, planted, name="run", code=4, arguments=None, **options):
        """Runs `planted`; code None: 0, or 4 where more than the last iteration is compared."""
        path = self.write(experiment(self.folder, planted, **options), f"{name}.yaml")
        arguments = allow(planted) if arguments is None else arguments
        outcome = mpirun(2, "run", path, "--out", self.folder / name, *arguments, limit_s=200)
        self.assertIn(outcome.code, (0, 4) if code is None else (code,), str(outcome))
        return self.folder / name, outcome

    def place_of(self, run, policy, fault):
        """(request, position) of the fault's token on rank 1."""
        row = fault.get("token", 0) + (START if fault.get("ubatch", 1) == 1 else 0)
        with h5py.File(run / policy / "rank-00001.h5") as file:
            return int(file["input/request_id"][row]), int(file["input/positions"][row])

    def assert_caught(self, run, name, fault):
        report = verification(run, name)
        self.assertEqual(report["verdict"], "mismatch", f"{name}: {report}")
        wrong = first_wrong(report)
        self.assertEqual(wrong["name"], expected_layer(fault), f"{name}: {wrong}")
        worst = wrong["worst"]
        request, position = self.place_of(run, name, fault)
        if fault["kind"] in ("stale_buffer", "early_reuse"):  # many rows; what rank 1 did not get of rank 0 is wrong on rank 0
            self.assertEqual(worst["rank"], 1 if fault["phase"] == "combine" else 0, f"{name}: {worst}")
        elif fault["kind"] == "wrong_position":  # later tokens of the request read its keys
            self.assertEqual((worst["rank"], worst["request"]), (1, request), f"{name}: {worst}")
            self.assertGreaterEqual(worst["position"], position, f"{name}: {worst}")
        elif fault["kind"] == "stale_kv":
            self.assertEqual((worst["rank"], worst["request"]), (1, request), f"{name}: {worst}")
        elif fault["kind"] == "swapped_tokens":
            self.assertEqual((worst["rank"], worst["request"]), (1, request), f"{name}: {worst}")
            self.assertIn(worst["position"], (position, position + 1), f"{name}: {worst}")
        else:
            self.assertEqual((worst["rank"], worst["request"], worst["position"]), (1, request, position), f"{name}: {worst}")

    def assert_all_caught(self, planted, **options):
        run, outcome = self.plant(planted, **options)
        self.assertIn("policy right step_ms", outcome.out)
        for name in RIGHT:
            self.assertEqual(verification(run, name)["verdict"], "verified")
            self.assertRegex(outcome.out, rf"policy {name} step_ms \S+ verdict verified")
        for name, fault in planted.items():
            with self.subTest(fault=name):
                self.assert_caught(run, name, fault)
                self.assertRegex(outcome.out, rf"policy {name} step_ms \S+ verdict mismatch")
        return run, outcome


class Faults(Faulty):
    def test_float32(self):
        run, outcome = self.assert_all_caught(cases(MIDDLE))
        self.assertIn("fault injected: this run is no measurement", outcome.out)
        said = f"flipped_element at rank 1, ubatch 1, layer 2, phase attention, iteration {LAST}, token {TOKEN}, largest element"
        self.assertIn(f"fault in policy flipped_attention: {said}\n", outcome.out)
        for name, expected in (("flipped_attention", said), ("right", "none"), ("sequential", "none")):
            self.assertEqual(json.loads((run / name / "summary.json").read_text())["fault"], expected)
            for rank in (0, 1):
                with h5py.File(run / name / f"rank-0000{rank}.h5") as file:
                    self.assertEqual(file.attrs["fault"], expected)

        compared = {one["name"]: one for one in json.loads(dovetail("compare", run, "--format", "json").out)["policies"]}
        wrong, right = compared["flipped_attention"], compared["right"]
        self.assertEqual((wrong["status"], wrong["speed_up"], wrong["step_ns"]), ("mismatch", None, None))
        self.assertIn("no measurement: fault flipped_element at rank 1", wrong["note"])
        self.assertEqual((right["status"], right["note"]), ("complete", ""))
        self.assertGreater(right["speed_up"], 0)

    def test_bfloat16_with_24_layers(self):
        self.assert_all_caught(cases(EARLY), dtype="bfloat16")

    def test_what_is_below_rounding_differs_in_bits(self):
        planted = {name: fault for name, fault in cases(22).items() if name in ("dropped_last", "wrong_last_sent", "flipped_combine")}
        run, _ = self.plant(planted, code=None, dtype="bfloat16")
        for name in ("again", *planted):
            outcome = dovetail("verify", run / "right", run / name, "--mode", "bitwise")
            self.assertEqual(outcome.code, 0 if name == "again" else 4, f"{name}: {outcome}")

    def assert_named(self, run, planted, iteration, iterations):
        """Every policy is a mismatch by that timed iteration alone; the tensors of the last one are right."""
        for name, fault in planted.items():
            with self.subTest(fault=name):
                report = verification(run, name)
                received = fault["kind"] in ("stale_buffer", "early_reuse") and fault["phase"] == "dispatch"
                rank = 0 if received else 1  # what rank 1 did not get of rank 0 is wrong on rank 0
                self.assertEqual(report["verdict"], "mismatch")
                self.assertTrue(all(tensor["passed"] for tensor in report["tensors"]))
                self.assertEqual(len(report["problems"]), 1, report["problems"])
                self.assertRegex(report["problems"][0], rf"^iterations: timed iteration {iteration}, step 0: .*outputs on ranks? .*{rank}")
                judged = report["iterations"]
                self.assertEqual((judged["timed"], judged["poisoned"], judged["different"], judged["as_recorded"]), (iterations, 1, 1, iterations))

    def test_a_fault_in_an_iteration_that_is_not_recorded_is_named(self):
        planted = cases(2)
        run, _ = self.plant(planted, iteration=WARMUP)  # the first timed iteration; outputs are of the last
        self.assert_named(run, planted, 0, ITERATIONS)
        for name in planted:
            for rank in (0, 1):
                with h5py.File(run / name / f"rank-0000{rank}.h5") as a, h5py.File(run / "right" / f"rank-0000{rank}.h5") as b:
                    for output in ("hidden", "logits", "layer_3"):
                        np.testing.assert_array_equal(a[f"output/{output}"][:], b[f"output/{output}"][:], f"{name}: {output}")

    def test_a_fault_in_one_iteration_of_twenty_is_named(self):
        planted = {name: fault for name, fault in cases(2).items() if fault["kind"] in ("flipped_element", "stale_buffer")}
        run, _ = self.plant(planted, iteration=WARMUP + 7, arguments=[*allow(planted), "--set", "execution.iterations=20"])
        self.assert_named(run, planted, 7, 20)
        for name in RIGHT:
            self.assertEqual(verification(run, name)["verdict"], "verified")
            self.assertEqual(verification(run, name)["iterations"]["as_recorded"], 21)

    def test_a_wait_that_is_skipped_ends_the_run(self):
        for name, fault in waits(2).items():
            with self.subTest(fault=name):
                _, outcome = self.plant({name: fault}, name, code=3)
                self.assertRegex(outcome.err, rf"policy {name}: rank 1, ubatch 1, layer 2, phase {fault['phase']}: .* must follow")


class GroupEnds(CliTest):
    LIMIT_S = 20  # start, warm-up, the time-out of 3 s, the end

    def end(self, fault, code, **options):
        """What was said, and failure.json."""
        path = self.write(cut_experiment(**options))
        run = self.folder / f"run-{time.monotonic_ns()}"
        outcome = mpirun(2, "run", path, "--out", run, "--set", f"fault={fault}")
        self.assertEqual(outcome.code, code, f"{fault}: {outcome}")
        self.assertLess(outcome.seconds, self.LIMIT_S, f"{fault}: {outcome}")
        self.assertNotIn("verdict", outcome.out)
        report = run / "cut" / "failure.json"
        return outcome.err, json.loads(report.read_text()) if report.exists() else None

    def expect_exception(self, fault, place):
        err, report = self.end(fault, 3)
        self.assertEqual(len(re.findall(rf"policy cut: rank 1, {place}: injected fault", err)), 1, err)
        self.assertEqual(report["cause"], "error")


class ExceptionInAGroup(GroupEnds):
    """One of the cases of EndedInAGroup, which takes minutes."""

    def test_it_is_named_and_all_ranks_end(self):
        self.expect_exception(*next(endings("exception")))


class EndedInAGroup(GroupEnds):
    """A rank that throws, stalls or is killed in one group of experts: the group is named, and all ranks end in time."""

    def test_an_exception(self):
        for fault, place in endings("exception"):
            with self.subTest(place=place):
                self.expect_exception(fault, place)

    def test_a_stalled_rank(self):
        for fault, place in endings("hang"):
            with self.subTest(place=place):
                err, report = self.end(fault, 3)
                lane = "compute" if "experts" in place else "comm"
                self.assertRegex(err, rf"rank 1 is late: it is stuck since \d\.\d s in {place} \({lane} lane\)")
                self.assertRegex(err, r"  rank 0 waits since \d\.\d s in ubatch \d, layer \d, phase (dispatch|combine), group [01] \(comm lane\)")
                late = report["late"][0]["op"]
                self.assertEqual((late["phase"], late["group"]), (re.search(r"phase (\w+)", place)[1], int(place[-1])))

    def test_a_killed_rank(self):
        for fault, place in endings("kill"):
            with self.subTest(place=place):
                err, _ = self.end(fault, 137)  # of the signal, as mpirun has it
                self.assertRegex(err, r"rank 1 with PID .* exited on signal 9")


class FaultInput(Faulty):
    def refuse(self, fault, expected, arguments=None):
        """With arguments by a run, else by `check`, which needs no ranks."""
        path = self.write(experiment(self.folder, {"wrong": {"layer": 2, **fault}}))
        outcome = (dovetail("check", path, "--ranks", 2) if arguments is None else
                   mpirun(2, "run", path, "--out", self.folder / "refused", *arguments))
        self.assertEqual(outcome.code, 2, f"{fault}\n{outcome}")
        self.assertRegex(outcome.err, expected, str(fault))
        self.assertFalse((self.folder / "refused").exists())

    def test_only_by_name(self):
        flipped = {"kind": "flipped_element", "phase": "attention"}
        expected = r"experiment.yaml:\d+:\d+: fault\[0\].kind: flipped_element makes results wrong in silence; allowed: .*--allow-fault flipped_element"
        self.refuse(flipped, expected, arguments=[])
        self.refuse(flipped, expected, arguments=["--allow-fault", "stale_kv"])
        self.refuse({**flipped, "layer": 4}, "fault.layer: 4, and the model has 4", arguments=["--allow-fault", "flipped_element"])
        self.refuse({**flipped, "token": 46}, "fault.token: 46, and ubatch 1 of rank 1 has 46", arguments=["--allow-fault", "flipped_element"])
        outcome = dovetail("run", "experiments/quickstart.yaml", "--allow-fault", "hang")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("flipped_element", outcome.err)

    def test_places_that_there_are_not(self):
        attention = {"kind": "flipped_element", "phase": "attention"}
        for fault, expected in (
                ({**attention, "layer": 4}, r"fault.layer: 4, and the model has 4; allowed: 0 to 3 \(flipped_element in policy wrong\)"),
                ({**attention, "token": 46}, r"fault.token: 46, and ubatch 1 of rank 1 has 46 tokens"),
                ({"kind": "swapped_tokens", "phase": "combine", "token": 45}, r"fault.token: 45, and ubatch 1 of rank 1 has 46 .*the next are swapped"),
                ({**attention, "ubatch": 2}, r"fault.ubatch: 2, and the policy has 2; allowed: 0 to 1"),
                ({**attention, "element": 128}, r"fault.element: 128, and a row has 128; allowed: 0 to 127"),
                ({**attention, "phase": "mlp"}, r"fault.phase: mlp, which layer 2 does not have; allowed: attention, route"),
                ({"kind": "wrong_expert", "phase": "route", "choice": 4}, r"fault.choice: 4, and a token has 4; allowed: 0 to 3"),
                ({"kind": "skipped_wait", "phase": "dispatch"}, r"fault.phase: no wait .* dispatch of layer 2 .*; allowed: .*experts"),
                ({"kind": "early_reuse", "phase": "combine", "ubatch": 1, "layer": 3}, r"fault.phase: at combine of layer 3 of ubatch 1 no exchange"),
        ):
            with self.subTest(fault=fault):
                self.refuse(fault, expected)

    def test_places_of_faults_in_ops(self):
        for fault, expected in (
                ({"layer": 77}, r"fault.layer: 77, and the model has 4; allowed: 0 to 3 \(exception\)"),
                ({"ubatch": 5}, r"fault.ubatch: 5, and the policy has 2; allowed: 0 to 1"),
                ({"group": 1}, r"fault.group: 1, and the phase has 1; allowed: 0 to 0"),
                ({"phase": "mlp"}, r"fault.phase: mlp, which layer 0 does not have; allowed: attention, "),
                ({"layer": -1}, r"fault.phase: there is no experts of layer -1 of ubatch 0"),
                ({"iteration": 300}, r"fault.iteration: 300, and warm-up, timed and profiled iterations end with 6; allowed: -1 to 6"),
                ({"rank": 2}, r"fault.rank: rank 2 in a world of 2 ranks"),
                ({"ubatch": 1, "policy": "sequential"}, r"fault.ubatch: 1, and the policy has 1; .*\(exception in policy sequential\)")):
            for command in ("check", "run"):
                with self.subTest(fault=fault, command=command):
                    whole = {"kind": "exception", "rank": 1, **fault}
                    arguments = ["experiments/quickstart.yaml", "--set", f"fault={json.dumps(whole)}", "--set", "execution={warmup: 2, iterations: 2}",
                                 "--set", "record.profiled_iterations=3"]
                    outcome = (dovetail("check", *arguments, "--ranks", 2) if command == "check" else
                               mpirun(2, "run", *arguments, "--out", self.folder / "refused"))
                    self.assertEqual(outcome.code, 2, str(outcome))
                    self.assertRegex(outcome.err, expected)
                    self.assertFalse((self.folder / "refused").exists())

    def test_a_fault_whose_step_runs_without_ubatches_has_not_happened(self):
        outcome = mpirun(2, "run", "experiments/quickstart.yaml", "--out", self.folder / "run", "--set", "fault={kind: exception, rank: 1, ubatch: 1}",
                         "--set", "policies=[{name: sequential}, {name: dual_batch, ubatches: 2, thresholds: {prefill: 100000, decode: 100000}}]")
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertIn("the fault has not happened: exception at rank 1, ubatch 1, layer 0, phase experts, iteration 0", outcome.err)
        self.assertNotIn("verified", outcome.out)

    def test_a_group_of_one_rank_exchanges_nothing(self):
        planted = {"wrong": {"kind": "stale_buffer", "phase": "dispatch", "layer": 2, "rank": 0}}
        path = self.write(experiment(self.folder, planted))
        outcome = mpirun(1, "run", path, "--out", self.folder / "refused", "--set", "parallel.expert_parallel=1", *allow(planted))
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("fault.kind: nothing is exchanged in a group of one rank; allowed: expert_parallel from 2", outcome.err)

    def test_a_policy_that_is_left_out_or_vetoed(self):
        planted = {"wrong": {"kind": "flipped_element", "phase": "attention", "layer": 2}}
        path = self.write(experiment(self.folder, planted))
        outcome = mpirun(2, "run", path, "--out", self.folder / "refused", "--policy", "right", *allow(planted))
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("fault.policy: unknown policy 'wrong'; the experiment has: sequential, right", outcome.err)
        # What never happens must not look like what nobody noticed.
        thresholds = ["--set", "policies.wrong.thresholds={prefill: 1000, decode: 1000}"]
        outcome = mpirun(2, "run", path, "--out", self.folder / "vetoed", "--policy", "wrong", *allow(planted), *thresholds)
        self.assertEqual(outcome.code, 3, str(outcome))
        self.assertIn("the fault has not happened: flipped_element at rank 1, ubatch 1", outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
