#!/usr/bin/env python3
"""What `dovetail check` says of published models: their parameters, and the GPUs that hold them.

check_test.py [unittest arguments]
"""
import json
import unittest

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

    def test_check_tries_every_divisor_of_the_experts(self):
        for ranks in (2, 6, 12):
            for policy in self.check_published("qwen1.5-moe-a2.7b", ranks, "--gpu-memory-gib", 8)["memory_fit"]["policies"]:
                self.assertEqual((policy["fits_with_expert_parallel"], policy["fits"]), (6, ranks >= 6), policy)


if __name__ == "__main__":
    unittest.main(verbosity=2)
