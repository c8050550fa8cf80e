#!/usr/bin/env python3
"""The verification matrix on CPU ranks: every pair of values of the factors below meets in at least one run, and every policy's outputs equal those of
the run without ubatches, within the rule for float32.

matrix_test.py [unittest arguments]; DOVETAIL_MATRIX_REPORT names a file for the size and time of the matrix.
"""
import itertools
import json
import os
import time
import unittest

from cli import FP32_BOUND, CliTest, exchanges_on, mpirun, with_other_policies
from pairwise import Pairwise

STAGES = "{moe: [[attention], [route, dispatch], [experts, combine, shared_experts]], delta: 1}"
STAGES_OF_GROUPS = "{moe: [[attention, route, dispatch g0], [dispatch g1, experts g0], [combine g0, shared_experts, experts g1], [combine g1]]}"

# Of a run. Grids are (ranks, expert_parallel, rank_scale).
PHASES = {
    "prefill": "{phase: prefill, requests: {lengths: [37, 1, 18, 24]}}",
    "chunked": "{phase: prefill, requests: {count: 3, length: 11, context_length: 21}, steps: 2}",
    "decode": "{phase: decode, requests: {context_lengths: [5, 40, 1, 17, 33, 8]}, steps: 3}",
    "mixed": "{phase: mixed, requests: [{count: 4, length: 1, context_length: 19}, {lengths: [23, 9], context_lengths: [0, 12]}], context: random}",
}
GRIDS = {
    "1": (1, 1, None),
    "2": (2, 2, None),
    "4": (4, 4, None),
    "2x2": (4, 2, None),
    "uneven": (2, 2, "[1.0, 0.4]"),
    "idle": (4, 2, "[1.0, 0.0, 0.5, 1.0]"),
}
# Of a policy.
SCHEDULES = with_other_policies({
    "dual_2": ("dual_batch", 2, ""),
    "dual_3": ("dual_batch", 3, ""),
    "dual_8": ("dual_batch", 8, ""),
    "staged_prefill": ("staged", 2, "stages: prefill"),
    "staged_decode": ("staged", 2, "stages: decode"),
    "staged_list": ("staged", 3, f"stages: {STAGES}"),
    "staged_groups": ("staged", 2, "stages: prefill, groups: 4"),
    "staged_group_list": ("staged", 2, f"stages: {STAGES_OF_GROUPS}, groups: 2"),
    "groups_1": ("expert_groups", 1, "groups: 2"),
    "groups_2": ("expert_groups", 2, "groups: 4"),
    "file": ("experiments/own_schedule.json", 2, ""),
})
SPLITS = ["token_midpoint", "request", "balanced", "sizes"]
EXCHANGES = list(exchanges_on("CPU"))
HAND_OFFS = ["threads", "inline"]
PAGES = [1, 16, 50]

FACTORS = {
    "phase": list(PHASES),
    "grid": list(GRIDS),
    "schedule": list(SCHEDULES),
    "split": SPLITS,
    "exchange": EXCHANGES,
    "hand_off": HAND_OFFS,
    "page_size": PAGES,
}

EXPERIMENT = """
experiment: matrix
model: {{architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {{seed: 42}}}}
parallel: {{expert_parallel: {expert_parallel}}}
workload: {workload}
execution: {{warmup: 1, iterations: 1, timeout_s: 30}}
policies:
  - {{name: sequential}}
{policies}
verify: {{baseline: sequential, mode: tolerance}}
record: {{outputs: [hidden, logits, routing], timing: steps}}
"""


def policy_of(index, row):
    schedule, ubatches, extra = SCHEDULES[row["schedule"]]
    split = f"{{sizes: {[3 + 2 * u for u in range(ubatches)]}}}" if row["split"] == "sizes" else row["split"]
    fields = [f"name: p{index}", f"schedule: {schedule}", f"ubatches: {ubatches}", f"split: {split}", f"exchange: {row['exchange']}",
              f"hand_off: {row['hand_off']}", f"page_size: {row['page_size']}", *([extra] if extra else [])]
    return "  - {" + ", ".join(fields) + "}"


def experiment_of(phase, grid, rows):
    _, expert_parallel, rank_scale = GRIDS[grid]
    workload = PHASES[phase][:-1] + ", seed: 5" + (f", rank_scale: {rank_scale}" if rank_scale else "") + "}"
    policies = "\n".join(policy_of(index, row) for index, row in rows)
    return EXPERIMENT.format(expert_parallel=expert_parallel, workload=workload, policies=policies)


class Matrix(CliTest):
    def test_every_pair_is_verified(self):
        begin = time.monotonic()
        pairwise = Pairwise(FACTORS)
        rows = list(enumerate(pairwise.rows(seed=1)))
        covered = set().union(*(pairwise.pairs_of(row) for _, row in rows))
        self.assertEqual(covered, pairwise.all_pairs())
        runs = 0
        worst = 0.0
        for phase, grid in itertools.product(PHASES, GRIDS):
            chosen = [(index, row) for index, row in rows if (row["phase"], row["grid"]) == (phase, grid)]
            self.assertTrue(chosen, "every phase meets every grid")
            path = self.write(experiment_of(phase, grid, chosen), f"{phase}-{grid}.yaml")
            folder = self.folder / f"{phase}-{grid}"
            outcome = mpirun(GRIDS[grid][0], "run", path, "--out", folder)
            self.assertEqual(outcome.code, 0, f"{path.read_text()}\n{outcome}")
            runs += 1
            for index, row in chosen:
                self.assertIn(f"policy p{index} step_ms", outcome.out)
                summary = json.loads((folder / f"p{index}" / "summary.json").read_text())
                self.assertEqual(summary["verification"]["verdict"], "verified", str(row))
                for tensor in summary["verification"]["tensors"]:
                    self.assertLessEqual(float(tensor["error"]), FP32_BOUND, f"{row}\n{tensor}")
                    worst = max(worst, float(tensor["error"]))
        report = {"pairs": len(covered), "policies": len(rows), "runs": runs, "worst_error": worst, "seconds": time.monotonic() - begin}
        print(f"matrix: {report}")
        if "DOVETAIL_MATRIX_REPORT" in os.environ:
            with open(os.environ["DOVETAIL_MATRIX_REPORT"], "w", encoding="utf-8") as file:
                json.dump(report, file)


if __name__ == "__main__":
    unittest.main()
