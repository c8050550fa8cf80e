#!/usr/bin/env python3
"""The verification matrix on GPUs, bfloat16: every pair of values of the factors below meets in a policy of some run.

Each policy must equal `sequential` within the tolerance rule (with its routing replayed: near ties in the router must not decide), and must
equal to the bit the eager steps of its own schedule with `gather` and threads: so graphs, exchanges and ways of handing over change no bit.
gpu_matrix_test.py [unittest arguments]
"""
import itertools
import unittest

from gpu_cases import GPUS, GRAPH_MODES, TINY, GpuTest, exchanges_on, with_other_policies
from pairwise import Pairwise

RANKS = 4 if GPUS >= 4 else min(GPUS, 2)

EXCHANGES = exchanges_on("GPU")

# Of a run.
PHASES = {
    "prefill": "phase: prefill, requests: {lengths: [37, 1, 18, 130, 64]}",
    "decode": "phase: decode, requests: {context_lengths: [5, 40, 1, 300, 33, 8, 129]}, steps: 3",
}
GRIDS = {"even": None, "uneven": [1.0, 0.4, 0.7, 1.0], "idle": [1.0, 0.0, 0.5, 1.0]} if RANKS > 1 else {"even": None}
# Of a policy.
SCHEDULES = with_other_policies({
    "sequential": ("sequential", 1, ""),
    "dual_2": ("dual_batch", 2, ""),
    "dual_3": ("dual_batch", 3, ""),
    "dual_4": ("dual_batch", 4, ""),
    "groups_2": ("expert_groups", 1, ", groups: 2"),
    "groups_2_of_2": ("expert_groups", 2, ", groups: 2"),
    "staged_groups": ("staged", 2, ", stages: prefill, groups: 2"),
})
FACTORS = {
    "phase": list(PHASES),
    "grid": list(GRIDS),
    "schedule": list(SCHEDULES),
    "exchange": list(EXCHANGES),
    "graph": ["none", "piecewise", "full"],
    "hand_off": ["threads", "inline"],
    "sm_partition": ["soft", "hard"],
}
# Row counts of `ragged` come to the host, so a step with it is no single graph.
FORBIDDEN = [(("exchange", name), ("graph", graph)) for name, told in EXCHANGES.items()
             for graph in GRAPH_MODES[GRAPH_MODES.index(told.split()[-1]) + 1:]]
# Only one exchange takes the experts of a rank in groups.
FORBIDDEN += [(("schedule", schedule), ("exchange", exchange)) for schedule, (_, _, keys) in SCHEDULES.items() if "groups" in keys
              for exchange in EXCHANGES if exchange != "symmetric"]

EXPERIMENT = """
experiment: gpu_matrix
model: {model}
parallel: {{expert_parallel: {ranks}}}
workload: {{{phase}, seed: 5{rank_scale}}}
execution: {{device: cuda, dtype: bfloat16, warmup: 1, iterations: 3, timeout_s: 30}}
policies:
{policies}
verify: {verify}
record: {{outputs: [hidden, logits, routing], timing: steps}}
"""


def policy_line(name, row):
    schedule, ubatches, keys = SCHEDULES[row["schedule"]]
    return (f"  - {{name: {name}, schedule: {schedule}, ubatches: {ubatches}{keys}, exchange: {row['exchange']}, graph: {row['graph']}, "
            f"hand_off: {row['hand_off']}, sm_partition: {row['sm_partition']}}}")


def is_ubatched(schedule):
    return SCHEDULES[schedule][1] > 1


def reference_of(schedule):
    exchange = "gather" if (("schedule", schedule), ("exchange", "gather")) not in FORBIDDEN else "symmetric"
    return {"schedule": schedule, "exchange": exchange, "graph": "none", "hand_off": "threads", "sm_partition": "soft"}


def experiment_of(phase, grid, policies, verify):
    scale = GRIDS[grid]
    return EXPERIMENT.format(model=TINY, ranks=RANKS, phase=PHASES[phase], verify=verify,
                             rank_scale=f", rank_scale: {scale[:RANKS]}" if scale else "",
                             policies="\n".join(policy_line(name, row) for name, row in policies.items()))


class GpuMatrix(GpuTest):
    def run_cell(self, phase, grid, rows):
        """One run: the policies of `rows` and the eager references of their schedules. Returns the worst error against sequential."""
        references = {f"eager_{row['schedule']}": reference_of(row["schedule"]) for row in rows.values()}
        policies = {"baseline": reference_of("sequential")} | references | rows
        text = experiment_of(phase, grid, policies, "{baseline: baseline, mode: tolerance, routing: replay}")
        run, outcome = self.run_on(RANKS, text, f"{phase}-{grid}")
        worst = 0.0
        for name, row in policies.items():
            with self.subTest(name, **(row | {"phase": phase, "grid": grid})):
                self.assertIn(f"policy {name} step_ms", outcome.out)
                self.assert_steps(run / name, row["graph"], ubatched=is_ubatched(row["schedule"]))
                if name != "baseline":
                    worst = max(worst, self.worst_error(run, name))
                if name in rows:
                    self.verify(run / f"eager_{row['schedule']}", run / name, "bitwise")
        return worst

    def test_every_pair_is_verified(self):
        pairwise = Pairwise(FACTORS, FORBIDDEN)
        rows = {f"p{index}": row for index, row in enumerate(pairwise.rows(seed=1))}
        self.assertEqual(set().union(*map(pairwise.pairs_of, rows.values())), pairwise.all_pairs())
        worst = 0.0
        for phase, grid in itertools.product(PHASES, GRIDS):
            chosen = {name: row for name, row in rows.items() if (row["phase"], row["grid"]) == (phase, grid)}
            self.assertTrue(chosen, "every phase meets every grid")
            worst = max(worst, self.run_cell(phase, grid, chosen))
        print(f"GPU matrix: {len(pairwise.all_pairs())} pairs, {len(rows)} policies, {RANKS} ranks, worst error {worst:.3g}")


WAYS = [("threads", "soft"), ("inline", "hard"), ("threads", "hard"), ("inline", "soft")]


class GpuBits(GpuTest):
    """With the model's own routing, which a difference of one bit could change: all exchanges, graph modes, ways of handing over and SM
    partitions of one schedule agree to the bit."""

    def check(self, schedule, phase, grid):
        rows = [{"schedule": schedule, "exchange": exchange, "graph": graph, "hand_off": hand_off, "sm_partition": partition}
                for (exchange, graph), (hand_off, partition) in zip(itertools.product(FACTORS["exchange"], FACTORS["graph"]), itertools.cycle(WAYS))
                if not {(("exchange", exchange), ("graph", graph)), (("schedule", schedule), ("exchange", exchange))} & set(FORBIDDEN)]
        policies = {f"p{index}": row for index, row in enumerate(rows)}
        run, _ = self.run_on(RANKS, experiment_of(phase, grid, policies, "{baseline: p0, mode: bitwise}"), schedule)
        for name, row in policies.items():
            self.assert_steps(run / name, row["graph"], ubatched=is_ubatched(schedule))

    def test_sequential_decode(self):
        self.check("sequential", "decode", "even")

    def test_two_ubatches_decode_on_uneven_ranks(self):
        self.check("dual_2", "decode", "uneven" if "uneven" in GRIDS else "even")

    def test_groups_of_experts_give_the_bits_of_sequential(self):
        text = experiment_of("prefill", "uneven" if "uneven" in GRIDS else "even",
                             {"sequential": reference_of("sequential")}
                             | {f"{graph}_{hand_off}_{partition}": {"schedule": "groups_2", "exchange": "symmetric", "graph": graph, "hand_off": hand_off,
                                                                    "sm_partition": partition}
                                for graph in GRAPH_MODES for hand_off, partition in WAYS[:2]},
                             "{baseline: sequential, mode: bitwise}")
        _, outcome = self.run_on(RANKS, text, "groups")
        self.assertEqual(outcome.out.count("verdict verified"), 6, str(outcome))

    def test_three_ubatches_prefill_with_an_idle_rank(self):
        self.check("dual_3", "prefill", "idle" if "idle" in GRIDS else "even")


if __name__ == "__main__":
    unittest.main(verbosity=2)
