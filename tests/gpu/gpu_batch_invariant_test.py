#!/usr/bin/env python3
"""`numerics: batch_invariant` on GPUs: every policy, split, exchange, graph mode and grid has the bits of `sequential` on one GPU, and a chunk of a
prefill those of the whole.

gpu_batch_invariant_test.py [unittest arguments]
"""
import unittest

import numpy as np

from gpu_cases import RANKS, TINY, GpuTest, lists

EXPERIMENT = """
experiment: batch_invariant
model: %(model)s
parallel: {expert_parallel: %(ranks)d}
workload: {%(workload)s, seed: 5}
execution: {device: cuda, dtype: %(dtype)s, numerics: %(numerics)s, warmup: 1, iterations: 2, timeout_s: 30}
policies:
%(policies)s
verify: {baseline: sequential, mode: %(mode)s}
record: {outputs: [hidden, logits, layers, routing], timing: steps}
"""
SEQUENTIAL = "  - {name: sequential, exchange: gather}"
GRAPHS = """
  - {name: full, schedule: sequential, exchange: padded, graph: full, comm_sms: 16}
  - {name: dual_pieces, schedule: dual_batch, ubatches: 2, split: {sizes: [5, 3]}, exchange: ragged, graph: piecewise, hand_off: inline}
  - {name: dual_full, schedule: dual_batch, ubatches: 2, exchange: gather, graph: full, comm_sms: 32}
  - {name: hard_full, schedule: dual_batch, ubatches: 2, graph: full, sm_partition: hard}"""
EAGER = """
  - {name: three, schedule: dual_batch, ubatches: 3, split: balanced, exchange: ragged, page_size: 32}
  - {name: staged, ubatches: 2, stages: decode, exchange: padded, hand_off: inline}
  - {name: shared_expert, exchange: padded, comm_sms: 4}
  - {name: hard, schedule: dual_batch, ubatches: 2, comm_sms: 16, sm_partition: hard}"""


WORKLOADS = {
    "prefill": lambda ranks: "phase: prefill, requests: " + lists(ranks, lengths=[37, 1, 90]),
    "chunked": lambda ranks: "phase: prefill, requests: " + lists(ranks, lengths=[11, 2, 40], context_lengths=[21, 33, 0]) + ", steps: 2",
    "decode": lambda ranks: "phase: decode, requests: " + lists(ranks, context_lengths=[5, 700, 1]) + ", steps: 2",
}


class GpuBatchInvariant(GpuTest):
    def run_numerics(self, name, ranks, workload, dtype="bfloat16", numerics="batch_invariant", policies=SEQUENTIAL, mode="bitwise"):
        fields = {"model": TINY, "ranks": ranks, "workload": workload, "dtype": dtype, "numerics": numerics, "policies": policies, "mode": mode}
        return self.run_on(ranks, EXPERIMENT % fields, name)[0]

    def test_every_policy_on_every_grid_has_the_bits_of_one_gpu(self):
        for dtype in ("bfloat16", "float32"):
            policies = SEQUENTIAL + EAGER + (GRAPHS if dtype == "bfloat16" else "")
            for phase, workload in WORKLOADS.items():
                with self.subTest(phase=phase, dtype=dtype):
                    many = self.run_numerics(f"{phase}-{dtype}", RANKS, workload(RANKS), dtype, policies=policies)
                    one = self.run_numerics(f"{phase}-{dtype}-one", 1, workload(1), dtype) if RANKS > 1 else many
                    self.verify(one / "sequential", many / "sequential", "bitwise")

    def differing_rows(self, numerics):
        def rows(name, ranks, workload):
            return self.rows(self.run_numerics(f"{name}-{numerics}", ranks, workload, numerics=numerics, mode="none") / "sequential")

        whole = rows("whole", 1, "phase: prefill, requests: {count: 8, length: 24}")
        differing = {}
        for name, ranks, workload in [
            ("alone", 1, "phase: prefill, requests: {count: 1, length: 24}"),
            ("chunked", RANKS, f"phase: prefill, requests: {{count: {8 // RANKS}, length: 8, context_length: 8}}, steps: 2"),
            ("single", 1, "phase: prefill, requests: {count: 8, length: 1, context_length: 20}, steps: 4"),
        ]:
            found = rows(name, ranks, workload)
            self.assertTrue(found)
            self.assertLessEqual(found.keys(), whole.keys())
            differing[name] = [key for key, row in found.items() if not np.array_equal(row, whole[key])]
        return differing

    def test_chunks_and_single_requests_have_the_bits_of_whole_batches(self):
        for name, rows in self.differing_rows("batch_invariant").items():
            self.assertEqual(rows, [], name)

    def test_fast_numerics_have_not(self):
        self.assertTrue(any(self.differing_rows("fast").values()), "the comparison above notices nothing")


if __name__ == "__main__":
    unittest.main(verbosity=2)
