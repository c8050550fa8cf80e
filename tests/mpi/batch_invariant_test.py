#!/usr/bin/env python3
"""`numerics: batch_invariant` under mpirun: a request has the same bits alone, in a batch, in chunks, under every policy and on every grid.

batch_invariant_test.py [unittest arguments]
"""
import json
import unittest

import h5py
import numpy as np

from cli import dovetail, lists
from workloads_test import Workload

EXPERIMENT = """
experiment: batch_invariant
model: {architecture: %(architecture)s, config: %(config)s, weights: {seed: 42}}
parallel: {expert_parallel: %(ep)d}
workload: {%(workload)s, seed: 5}
execution: {dtype: %(dtype)s, numerics: %(numerics)s, warmup: 0, iterations: 1, timeout_s: 30}
policies:
%(policies)s
verify: {baseline: sequential, mode: %(mode)s}
record: {outputs: [hidden, logits, layers, routing], timing: %(timing)s, profiled_iterations: 1}
"""
QWEN3 = {"architecture": "qwen3_moe", "config": "models/configs/qwen3-moe-tiny.json"}
SMALL = {"vocab_size": 128, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40,
         "num_experts_per_tok": 3, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 256}
OTHERS = {
    "mixtral": {"num_local_experts": 8, "rope_scaling": {"type": "yarn", "factor": 4, "original_max_position_embeddings": 32}},
    "qwen2_moe": {"num_experts": 8, "moe_intermediate_size": 24, "shared_expert_intermediate_size": 20, "mlp_only_layers": [1]},
    "deepseek_v2": {"num_key_value_heads": 4, "n_routed_experts": 8, "moe_intermediate_size": 24, "n_shared_experts": 2, "first_k_dense_replace": 1,
                    "q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10, "n_group": 4,
                    "topk_group": 2, "topk_method": "group_limited_greedy", "routed_scaling_factor": 2.0},
    "deepseek_v3": {"num_key_value_heads": 4, "n_routed_experts": 8, "moe_intermediate_size": 24, "n_shared_experts": 1, "first_k_dense_replace": 1,
                    "q_lora_rank": 20, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 12, "n_group": 4, "topk_group": 2},
    "glm4_moe": {"n_routed_experts": 8, "moe_intermediate_size": 24, "n_shared_experts": 1, "use_qk_norm": True},
}
SEQUENTIAL = "  - {name: sequential}"
POLICIES = SEQUENTIAL + """
  - {name: dual_cut, schedule: dual_batch, ubatches: 2, split: {sizes: [5, 3]}, hand_off: inline, exchange: gather}
  - {name: dual_three, schedule: dual_batch, ubatches: 3, split: balanced, page_size: 3}
  - {name: staged, ubatches: 2, stages: decode, hand_off: inline}
  - {name: shared_expert, exchange: ragged, page_size: 50}
  - {name: groups_gather, schedule: expert_groups, groups: 2, exchange: gather, hand_off: inline}
  - {name: groups_cut, schedule: expert_groups, groups: 2, ubatches: 2, split: {sizes: [5, 3]}}
"""


def workloads(ranks):
    return {
        "prefill": ("float32", "phase: prefill, requests: " + lists(ranks, lengths=[37, 1, 90])),
        "chunked": ("bfloat16", "phase: prefill, requests: " + lists(ranks, lengths=[11, 1, 40], context_lengths=[21, 33, 0]) + ", steps: 2"),
        "decode": ("float32", "phase: decode, requests: " + lists(ranks, context_lengths=[5, 140, 1]) + ", steps: 2"),
        "mixed": ("float16", "phase: mixed, requests: " + lists(ranks, lengths=[24, 1, 7], context_lengths=[0, 23, 17])),
    }


class Numerics(Workload):
    def run_numerics(self, name, ranks, workload, dtype="float32", numerics="batch_invariant", **values):
        fields = {"ep": ranks, "policies": POLICIES, "mode": "bitwise", "timing": "steps", **QWEN3, **values}
        text = EXPERIMENT % {"workload": workload, "dtype": dtype, "numerics": numerics, **fields}
        return self.run_experiment(ranks, self.write(text, f"{name}.yaml"), name)[0]

    def verify_bits(self, baseline, policy):
        return dovetail("verify", baseline, policy, "--mode", "bitwise")


class BatchInvariantGrids(Numerics):
    def test_every_policy_on_every_grid_has_the_bits_of_one_rank(self):
        """Grids are (ranks, expert_parallel)."""
        for phase, grids in {"prefill": [(2, 2), (4, 4)], "chunked": [(2, 2)], "decode": [(4, 4)], "mixed": [(4, 2)]}.items():
            reference = None
            for ranks, ep in [(1, 1), *grids]:
                with self.subTest(phase=phase, ranks=ranks, ep=ep):
                    dtype, workload = workloads(ranks)[phase]
                    run = self.run_numerics(f"{phase}-{ranks}-{ep}", ranks, workload, dtype, ep=ep)
                    reference = reference or run
                    outcome = self.verify_bits(reference / "sequential", run / "sequential")
                    self.assertEqual(outcome.code, 0, str(outcome))


    def test_other_architectures(self):
        for architecture, keys in OTHERS.items():
            config = self.write(json.dumps({"model_type": architecture, **SMALL, **keys}), f"{architecture}.json")
            for phase in ("prefill", "mixed"):
                reference = None
                for ranks, ep in [(1, 1), (2, 2)]:
                    with self.subTest(architecture=architecture, phase=phase, ranks=ranks):
                        dtype, workload = workloads(ranks)[phase]
                        run = self.run_numerics(f"{architecture}-{phase}-{ranks}", ranks, workload, dtype, ep=ep, architecture=architecture, config=config)
                        reference = reference or run
                        outcome = self.verify_bits(reference / "sequential", run / "sequential")
                        self.assertEqual(outcome.code, 0, str(outcome))


class BatchInvariantRequests(Numerics):
    def differing_rows(self, rows, reference):
        self.assertTrue(rows)
        self.assertLessEqual(rows.keys(), reference.keys())
        return [key for key, row in rows.items() if not np.array_equal(row, reference[key])]

    def compare_with_whole(self, numerics):
        """Rows that differ between whole prefills of eight requests on one rank and the same rows computed otherwise."""
        alone = {"policies": SEQUENTIAL, "mode": "none"}
        whole = self.run_numerics("whole", 1, "phase: prefill, requests: {count: 8, length: 24}", numerics=numerics, **alone)
        reference = self.rows(whole / "sequential")
        differing = {}
        for name, ranks, workload in [
            ("alone", 1, "phase: prefill, requests: {count: 1, length: 24}"),
            ("decode", 2, "phase: decode, requests: {count: 4, context_length: 20}, steps: 4"),
            ("chunked", 2, "phase: prefill, requests: {count: 4, length: 8, context_length: 8}, steps: 2"),
            ("mixed", 2, "phase: mixed, requests: {lengths: [24, 1, 7, 3], context_lengths: [0, 23, 17, 21]}"),
            ("one_decode", 1, "phase: decode, requests: {count: 1, context_length: 23}"),
        ]:
            run = self.run_numerics(f"{name}-{numerics}", ranks, workload, numerics=numerics, **alone)
            differing[name] = self.differing_rows(self.rows(run / "sequential"), reference)
        return differing

    def test_chunks_decode_and_single_requests_have_the_bits_of_whole_batches(self):
        for name, rows in self.compare_with_whole("batch_invariant").items():
            self.assertEqual(rows, [], name)

    def test_fast_numerics_have_not(self):
        self.assertTrue(any(self.compare_with_whole("fast").values()), "the comparison above notices nothing")
        workload = "phase: prefill, requests: {count: %d, length: 20}"
        one = self.run_numerics("one", 1, workload % 4, numerics="fast", policies=SEQUENTIAL)
        two = self.run_numerics("two", 2, workload % 2, numerics="fast", policies=SEQUENTIAL)
        self.assertEqual(self.verify_bits(one / "sequential", two / "sequential").code, 4)

    def test_both_run_side_by_side(self):
        policies = SEQUENTIAL + "\n  - {name: invariant, schedule: sequential, numerics: batch_invariant}\n  - {name: again, schedule: sequential}"
        run = self.run_numerics("both", 2, "phase: decode, requests: {count: 3, context_length: 30}", numerics="fast", policies=policies,
                                mode="tolerance", timing="ops")
        for policy, numerics in [("sequential", "fast"), ("invariant", "batch_invariant"), ("again", "fast")]:
            with h5py.File(run / policy / "rank-00001.h5") as file:
                self.assertEqual(file.attrs["numerics"].decode() if isinstance(file.attrs["numerics"], bytes) else file.attrs["numerics"], numerics)
        self.assertEqual(self.verify_bits(run / "sequential", run / "again").code, 0, "each policy has its own numerics, contexts included")
        self.assertEqual(self.verify_bits(run / "sequential", run / "invariant").code, 4)
        self.assertIn("invariant", dovetail("compare", run).out)


if __name__ == "__main__":
    unittest.main()
