#!/usr/bin/env python3
"""Every architecture on GPUs, with heads of the published sizes (other sizes have no kernels in bfloat16) and little else.

gpu_models_test.py [unittest arguments]
"""
import json
import unittest

from gpu_cases import RANKS, GpuTest, dovetail, lists
from small_models import GLM4, MIXTRAL, QWEN2, V2, V3

FP32_BOUND = 4e-6  # of a row, against the CPU: latents and their heads are long sums; verify allows twice as much

EXPERIMENT = """
experiment: latent
model: {architecture: %(architecture)s, config: %(config)s, weights: {seed: 42}}
parallel: {expert_parallel: %(ranks)d}
workload: {%(workload)s, seed: 5, routing: %(routing)s}
execution: {device: %(device)s, dtype: %(dtype)s, numerics: %(numerics)s, warmup: 1, iterations: 2, timeout_s: 60}
policies:
  - {name: sequential, exchange: gather}
%(policies)s
verify: {baseline: sequential, mode: %(mode)s, routing: %(verify_routing)s}
record: {outputs: [hidden, logits, layers, routing], timing: %(timing)s}
"""
EAGER = """
  - {name: three, schedule: dual_batch, ubatches: 3, split: balanced, exchange: ragged, page_size: 32}
  - {name: staged, ubatches: 2, stages: decode, exchange: padded, hand_off: inline}
  - {name: shared_expert, exchange: padded}"""
GRAPHS = """
  - {name: full, schedule: sequential, exchange: padded, graph: full}
  - {name: dual_pieces, schedule: dual_batch, ubatches: 2, split: {sizes: [5, 3]}, exchange: ragged, graph: piecewise, hand_off: inline}
  - {name: dual_full, schedule: dual_batch, ubatches: 2, exchange: gather, graph: full}"""
WORKLOADS = {
    "prefill": lambda ranks: "phase: prefill, requests: " + lists(ranks, lengths=[37, 1, 290]),
    "chunked": lambda ranks: "phase: prefill, requests: " + lists(ranks, lengths=[11, 2, 40], context_lengths=[21, 133, 0]) + ", steps: 2",
    "decode": lambda ranks: "phase: decode, requests: " + lists(ranks, context_lengths=[5, 700, 1]) + ", steps: 2",
    "mixed": lambda ranks: "phase: mixed, requests: " + lists(ranks, lengths=[24, 1, 7], context_lengths=[0, 123, 17]),
}


class ModelTest(GpuTest):
    def run_model(self, name, config, workload, device="cuda", dtype="bfloat16", numerics="fast", policies=EAGER, mode="tolerance", routing="natural",
                  ranks=RANKS, timing="steps"):
        path = self.write(json.dumps(config), f"{config['model_type']}.json")
        fields = {"architecture": config["model_type"], "config": path, "ranks": ranks, "workload": WORKLOADS[workload](ranks), "routing": routing,
                  "device": device, "dtype": dtype, "numerics": numerics, "policies": policies, "mode": mode, "timing": timing,
                  "verify_routing": "replay" if mode == "tolerance" and dtype == "bfloat16" and routing == "natural" else "natural"}
        return self.run_on(ranks, EXPERIMENT % fields, f"{name}-{config['model_type']}-{workload}-{dtype}")[0]

    def check_against_the_cpu(self, config, workload):
        """Policies in bfloat16, eager and in graphs, with the CPU's experts."""
        cpu = self.run_model("cpu", config, workload, "cpu", policies="")
        gpu = self.run_model("gpu", config, workload, policies=EAGER + GRAPHS, routing="{replay: %s}" % (cpu / "sequential"))
        self.assert_steps(gpu / "dual_full", "full", ubatched=True)
        self.assert_steps(gpu / "dual_pieces", "piecewise", ubatched=True)
        for policy in ("sequential", "three", "full", "dual_full"):
            self.verify(cpu / "sequential", gpu / policy, "tolerance")


class GpuLatent(ModelTest):
    def test_float32_equals_the_cpu(self):
        for config in (V3, V2):
            for workload in WORKLOADS:
                with self.subTest(model=config["model_type"], workload=workload):
                    cpu = self.run_model("cpu", config, workload, "cpu", "float32", policies="")
                    gpu = self.run_model("gpu", config, workload, "cuda", "float32")
                    for policy in ("sequential", "three", "staged"):
                        for tensor in self.verify(cpu / "sequential", gpu / policy, "tolerance")["tensors"]:
                            self.assertLessEqual(float(tensor["error"]), FP32_BOUND, str(tensor))

    def test_bfloat16_kernels_in_graphs_follow_the_cpu(self):
        for config in (V3, V2):
            for workload in WORKLOADS:
                with self.subTest(model=config["model_type"], workload=workload):
                    self.check_against_the_cpu(config, workload)

    def test_natural_routing_of_ubatches_is_judged(self):
        self.run_model("natural", V3, "prefill", policies=EAGER + GRAPHS)

    def test_batch_invariant_policies_have_the_bits_of_sequential(self):
        for workload in WORKLOADS:
            with self.subTest(workload=workload):
                self.run_model("invariant", V3, workload, numerics="batch_invariant", policies=EAGER + GRAPHS, mode="bitwise")

    def test_other_models_are_told_apart(self):
        right = self.run_model("right", V3, "decode", policies="")
        wrong = self.run_model("wrong", {**V3, "rope_theta": 5000}, "decode", policies="")
        self.verify(right / "sequential", wrong / "sequential", "tolerance", code=4)


class GpuArchitectures(ModelTest):
    """Those without latents."""

    def test_bfloat16_in_graphs_follows_the_cpu(self):
        for config in (MIXTRAL, QWEN2, GLM4):
            for workload in ("prefill", "decode", "mixed"):
                with self.subTest(model=config["model_type"], workload=workload):
                    self.check_against_the_cpu(config, workload)


class GpuOpTimes(ModelTest):
    """Where one rank has nothing to exchange, ops without work stand beside others in a graph."""

    POLICIES = """
  - {name: full, schedule: sequential, graph: full}
  - {name: shared_expert, graph: full}
  - {name: dual, schedule: dual_batch, ubatches: 2, graph: full}
  - {name: staged, ubatches: 2, stages: decode, graph: full}"""

    def test_no_op_ends_before_it_starts(self):
        for workload in ("prefill", "decode"):
            for ranks in sorted({1, RANKS}):
                with self.subTest(workload=workload, ranks=ranks):
                    run = self.run_model(f"times-{ranks}", V2, workload, policies=self.POLICIES, ranks=ranks, timing="ops")
                    told = dovetail("compare", run, "--format", "json")
                    self.assertEqual(told.code, 0, str(told))
                    for policy in json.loads(told.out)["policies"]:
                        self.assertEqual(policy["status"], "complete", policy["name"])
                        self.assertIsNotNone(policy["metrics"], policy["name"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
