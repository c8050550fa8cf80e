#!/usr/bin/env python3
"""What `dovetail check` says of published models: their parameters, the GPUs that hold them, and what the phases of a step cost; and of matrices that are
tied, or are not.

check_test.py [unittest arguments]
"""
import json
import math
import shutil
import unittest

import numpy as np

from anchor import read_safetensors
from cli import TOP, CliTest, dovetail


class Published(CliTest):
    def check_published(self, name, ranks, *options):
        config = f"models/configs/{name}.json"
        model = f"{{architecture: {json.loads((TOP / config).read_text())['model_type']}, config: {config}, weights: {{seed: 1}}}}"
        outcome = dovetail("check", "experiments/quickstart.yaml", "--ranks", ranks, "--device", "cuda", "--format", "json", "--set", f"model={model}",
                           "--set", f"parallel.expert_parallel={ranks}", "--set", "execution.dtype=bfloat16", *options)
        self.assertEqual(outcome.code, 0, str(outcome))
        return json.loads(outcome.out)

    def test_check_plans_the_published_models(self):
        """Weights of all ranks, replicated parts counted once, are the parameters that the model's page states, in bfloat16; routers'
        biases are float32. The smallest groups of cards of 80 and of 141 GiB that hold them: the least divisor d of the experts for which
        replicated + experts / d, and a GiB or two of cache, buffers and outputs, fit."""
        for name, ranks, parameters, biases, of_80, of_141 in (
                ("qwen3-30b-a3b", 4, 30_532_122_624, 0, 1, 1), ("qwen3-235b-a22b", 8, 235_093_634_560, 0, 8, 4),
                ("mixtral-8x7b", 2, 46_702_792_704, 0, 2, 1), ("mixtral-8x22b", 8, 140_620_634_112, 0, 4, 2),
                ("qwen1.5-moe-a2.7b", 4, 14_315_784_192, 0, 1, 1), ("deepseek-v2-lite", 4, 15_706_484_224, 0, 1, 1),
                ("deepseek-v3", 16, 671_026_419_200, 58 * 256, 32, 16), ("kimi-k2", 16, 1_026_408_232_448, 60 * 384, 48, 24),
                ("glm-4.5-air", 8, 106_852_251_264, 45 * 128, 4, 2)):
            with self.subTest(model=name):
                report = self.check_published(name, ranks, "--gpu-memory-gib", 80)
                memory = report["memory_bytes_by_rank"]
                self.assertEqual(len(memory), ranks)
                weights = ("embedding", "norms", "attention", "router", "experts", "shared experts", "dense layers", "lm_head")
                self.assertEqual(sum(memory[0][part] for part in weights) + (ranks - 1) * memory[0]["experts"], 2 * (parameters + biases))
                larger_cards = self.check_published(name, ranks, "--gpu-memory-gib", 141)
                for check, expected in ((report, of_80), (larger_cards, of_141)):
                    for policy in check["memory_fit"]["policies"]:
                        self.assertEqual(policy["fits_with_expert_parallel"], expected, policy)
                        self.assertEqual(policy["fits"], ranks >= expected, policy)
                        self.assertIn(f"; the smallest expert_parallel that fits is {expected} (", policy["text"])

    def assert_work(self, report, policy, expected):
        found = {one["name"]: one["phases"] for one in report["work_by_phase"]["policies"]}[policy]
        self.assertEqual(set(found), {*expected, "total"})
        for phase, numbers in expected.items():
            for key, number in {**dict.fromkeys(found[phase], 0), **numbers}.items():
                self.assertAlmostEqual(found[phase][key], number, delta=1e-9 * number, msg=f"{policy}, {phase}, {key}")
                self.assertAlmostEqual(found["total"][key], sum(one[key] for name, one in found.items() if name != "total"),
                                       delta=1e-9 * found["total"][key])

    def test_check_counts_the_work_of_phases_of_grouped_queries(self):
        """Qwen3-30B-A3B: 48 layers of H 2048, 32 query and 4 key heads of 128, 8 of 128 experts of 768, a vocabulary of 151936; bfloat16, two
        requests of 1000 and 500 tokens on each of 4 ranks, cut behind 900 of the first."""
        layers, h, cut = 48, 2048, "policies=[{name: plain, schedule: sequential}, {name: cut, schedule: dual_batch, split: {sizes: [900, 600]}}]"
        report = self.check_published("qwen3-30b-a3b", 4, "--set", "workload.requests={lengths: [1000, 500]}", "--set", cut, "--set", "verify.baseline=plain")
        projections = h * 128 * (32 + 4 + 4 + 32)
        key = 2 * 4 * 128 * 2 * layers  # keys and values, bfloat16
        needed = 1 - math.comb(96, 8) / math.comb(128, 8)
        row = h * 2 * layers
        experts = layers * 32 * 3 * h * 768 * 2  # of a rank, bytes

        def work(weights, keys, read):
            """`weights`: how often they are read; `keys` that are read; `read`: share of the experts."""
            return {"embed": {"weight_bytes": 1500 * h * 2},
                    "attention": {"flops": layers * (2 * 1500 * projections + 4 * 32 * 128 * (1000 * 1001 + 500 * 501) // 2),
                                  "weight_bytes": weights * 2 * layers * projections, "cache_read_bytes": keys * key, "cache_written_bytes": 1500 * key},
                    "route": {"flops": 2 * 1500 * h * 128 * layers, "weight_bytes": weights * 2 * h * 128 * layers},
                    "dispatch": {"sent_bytes": 1500 * 3 * needed * row, "received_bytes": 4500 * needed * row},
                    "experts": {"flops": layers * 6 * 8 * h * 768 * 1500, "weight_bytes": read * experts},
                    "combine": {"sent_bytes": 4500 * needed * row, "received_bytes": 1500 * 3 * needed * row},
                    "output": {"flops": 2 * 2 * h * 151936, "weight_bytes": h * 151936 * 2}}

        self.assert_work(report, "plain", work(1, 1500, 1 - (15 / 16) ** 6000))
        self.assert_work(report, "cut", work(2, 900 + 1000 + 500, 2 - (15 / 16) ** 3600 - (15 / 16) ** 2400))

    def test_check_counts_the_work_of_phases_of_latent_attention(self):
        """DeepSeek-V2-Lite: 27 layers, the first one dense (10944), of H 2048; 16 heads, 128 without and 64 with positions, values of 128, latents
        of 512, queries not compressed; 6 of 64 experts of 1408, 2 shared; a vocabulary of 102400. bfloat16, 2 ranks."""
        layers, h, heads = 27, 2048, 16
        projections = h * heads * (128 + 64) + h * (512 + 64) + 512 * heads * (128 + 128) + heads * 128 * h
        key = (512 + 64) * 2 * layers
        needed = 1 - math.comb(32, 6) / math.comb(64, 6)
        row = h * 2 * 26
        plain = ("--set", "policies=[{name: plain, schedule: sequential}]", "--set", "verify={mode: none}")

        def work(tokens, attention, keys, requests):
            return {"embed": {"weight_bytes": tokens * h * 2},
                    "attention": {"flops": layers * (2 * tokens * projections + attention), "weight_bytes": 2 * layers * projections,
                                  "cache_read_bytes": keys * key, "cache_written_bytes": tokens * key},
                    "route": {"flops": 2 * tokens * h * 64 * 26, "weight_bytes": 2 * h * 64 * 26},
                    "dispatch": {"sent_bytes": tokens * needed * row, "received_bytes": tokens * needed * row},
                    "experts": {"flops": 26 * 6 * 6 * h * 1408 * tokens, "weight_bytes": 26 * 32 * 3 * h * 1408 * 2 * (1 - (58 / 64) ** (2 * tokens))},
                    "shared_experts": {"flops": 26 * 6 * 2 * 1408 * h * tokens, "weight_bytes": 26 * 3 * 2 * 1408 * h * 2},
                    "combine": {"sent_bytes": tokens * needed * row, "received_bytes": tokens * needed * row},
                    "mlp": {"flops": 6 * h * 10944 * tokens, "weight_bytes": 3 * h * 10944 * 2},
                    "output": {"flops": 2 * requests * h * 102400, "weight_bytes": h * 102400 * 2}}

        # Absorbed: a query meets latents of 576 and sums 512 of each.
        decode = self.check_published("deepseek-v2-lite", 2, *plain, "--set", "workload={phase: decode, requests: {count: 3, context_length: 99}, context: random}")
        self.assert_work(decode, "plain", work(3, 3 * 100 * 2 * heads * (576 + 512), 300, 3))
        # Expanded: heads of 192 and 128, and the 50 latents of the context become keys and values first.
        chunk = self.check_published("deepseek-v2-lite", 2, *plain, "--set", "workload={phase: prefill, requests: {count: 1, length: 30, context_length: 50}, context: random}")
        pairs = 30 * 50 + 30 * 31 // 2
        self.assert_work(chunk, "plain", work(30, pairs * 2 * heads * (192 + 128) + 50 * 2 * 512 * heads * 256, 80, 1))

    def test_check_tries_every_divisor_of_the_experts(self):
        for ranks in (2, 6, 12):
            for policy in self.check_published("qwen1.5-moe-a2.7b", ranks, "--gpu-memory-gib", 8)["memory_fit"]["policies"]:
                self.assertEqual((policy["fits_with_expert_parallel"], policy["fits"]), (6, ranks >= 6), policy)
        # Sums of batch_invariant meet in a tree over blocks of experts: 60 are four blocks of 15.
        report = self.check_published("qwen1.5-moe-a2.7b", 2, "--gpu-memory-gib", 8, "--set", "execution.numerics=batch_invariant")
        for policy in report["memory_fit"]["policies"]:
            self.assertIsNone(policy["fits_with_expert_parallel"], policy)
            self.assertTrue(policy["text"].endswith(" GiB, and would not with expert_parallel up to 4"), policy)


class TiedMatrices(CliTest):
    WEIGHTS = ("embedding", "norms", "attention", "router", "experts", "shared experts", "dense layers", "lm_head")

    def checkpoint(self, name, factor):
        """A fixture whose config ties embedding and lm_head, with an lm_head beside the embedding: that times `factor`."""
        folder = self.folder / name
        shutil.copytree(TOP / "tests/fixtures/tied-dense-sharded", folder)
        embedding = read_safetensors(folder / "model-00001-of-00007.safetensors")["model.embed_tokens.weight"]
        data = (embedding * np.float32(factor)).tobytes()
        header = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": embedding.shape, "data_offsets": [0, len(data)]}}).encode()
        (folder / "lm_head.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        index["weight_map"]["lm_head.weight"] = "lm_head.safetensors"
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        return folder, len(data)

    def test_two_that_differ_are_counted_both(self):
        """As a run keeps them; stored_names_test.cpp compares with what is in memory then."""
        weights = []
        for name, factor in (("equal", 1), ("different", 2)):
            folder, size = self.checkpoint(name, factor)
            model = f"{{architecture: qwen3_moe, config: {folder / 'config.json'}, weights: {{checkpoint: {folder}}}}}"
            outcome = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--device", "cpu", "--format", "json", "--set", f"model={model}",
                               "--set", "parallel.expert_parallel=2")
            self.assertEqual(outcome.code, 0, str(outcome))
            weights.append([{part: memory[part] for part in self.WEIGHTS} for memory in json.loads(outcome.out)["memory_bytes_by_rank"]])
        for equal, different in zip(*weights):
            self.assertEqual(equal["lm_head"], 0)
            self.assertEqual(equal["embedding"], size)
            self.assertEqual(different, {**equal, "lm_head": size})


if __name__ == "__main__":
    unittest.main(verbosity=2)
