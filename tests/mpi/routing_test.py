#!/usr/bin/env python3
"""Verdicts on routing, in whole runs: natural choices that part, choices that are replayed, contexts.

routing_test.py [unittest arguments]
"""
import json
import shutil
import unittest

import h5py
import numpy as np

from cli import CliTest, dovetail

MODEL = {"model_type": "qwen3_moe", "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
         "head_dim": 16, "num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 32, "intermediate_size": 64, "norm_topk_prob": True,
         "decoder_sparse_step": 1, "mlp_only_layers": [], "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
         "rope_scaling": None, "max_position_embeddings": 4096, "tie_word_embeddings": False}
GROUPED = {"model_type": "deepseek_v3", "vocab_size": 256, "hidden_size": 64, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 4,
           "n_routed_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 32, "intermediate_size": 64, "n_shared_experts": 1, "n_group": 4,
           "topk_group": 2, "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
           "v_head_dim": 16, "routed_scaling_factor": 2.5, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "max_position_embeddings": 4096}
EXPERIMENT = """
experiment: routing
model: {architecture: %(architecture)s, config: %(config)s, weights: {seed: 3}}
parallel: {expert_parallel: %(ranks)d}
workload: {%(workload)s, seed: 7, routing: %(routing)s}
execution: {dtype: %(dtype)s, warmup: 0, iterations: 1, timeout_s: 50}
policies: [{name: whole, schedule: sequential}, {name: dual, schedule: dual_batch, ubatches: %(ubatches)d%(option)s}]
verify: {baseline: whole, mode: tolerance, routing: %(verify)s}
record: {outputs: [hidden, logits, routing, kv]}
"""


class RoutingTest(CliTest):
    MODEL = MODEL
    DTYPE = "bfloat16"

    def run_routing(self, name, workload, ranks=2, routing="natural", verify="natural", ubatches=2, option="", more=""):
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.MODEL))
        fields = {"dtype": self.DTYPE, "architecture": self.MODEL["model_type"], "config": config, "workload": workload, "ranks": ranks, "routing": routing, "verify": verify, "ubatches": ubatches, "option": option}
        return self.run_experiment(ranks, self.write(EXPERIMENT % fields + more, name + ".yaml"), name)

    def report(self, baseline, policy, code=0):
        outcome = dovetail("verify", baseline, policy, "--format", "json")
        self.assertEqual(outcome.code, code, str(outcome))
        return json.loads(outcome.out)

    def changed(self, folder, dataset, change):
        """A copy of a policy's folder of which rank 1 was changed."""
        copy = shutil.copytree(folder, self.folder / "changed", dirs_exist_ok=True)
        with h5py.File(copy / "rank-00001.h5", "r+") as file:
            values = file[dataset][:]
            change(values)
            file[dataset][:] = values
        return copy


class Routing(RoutingTest):
    def test_natural_routing_of_long_requests_has_a_verdict(self):
        # Into so many parts that their products run in other kernels: some machines compute the rows of larger ones as in the whole.
        run, outcome = self.run_routing("long", "phase: prefill, requests: {lengths: [64, 160, 99]}", ubatches=4)
        verification = json.loads((run / "dual" / "summary.json").read_text())["verification"]
        routing = verification["routing"]
        parted = self.report(run / "whole", run / "dual", code=4)
        self.assertGreater(parted["routing"]["excluded_share"], 0.1, "the routers chose alike: the test shows nothing")
        self.assertIn("replay the baseline's routing", str(parted["problems"]))
        self.assertEqual(routing["excluded_share"], 0)
        self.assertEqual(routing["judged_token_layers"], 24 * 2 * (64 + 160 + 99))
        self.assertTrue(verification["baseline"].endswith("dual/reference"), verification["baseline"])
        self.assertIn(f"verdict verified (routing natural, {routing['different']} of {routing['judged_token_layers']} choices differ", outcome.out)
        reference = run / "dual" / "reference"
        self.report(reference, run / "dual")
        # Twins: a later row, which a comparison with the baseline itself would have left out; a choice that the logits do not make.
        row = self.changed(run / "dual", "output/hidden", lambda values: values.__setitem__(-1, values[-2]))
        self.assertIn("hidden: row error", str(self.report(reference, row, code=4)["problems"]))
        choice = self.changed(run / "dual", "route/expert_ids", lambda ids: ids.__setitem__((5, 7), ids[5, 8]))
        self.assertIn("routing: layer 5, rank 1", str(self.report(reference, choice, code=4)["problems"]))

    def test_a_sweep_takes_a_policy_with_its_reference(self):
        option = "}, {name: other, schedule: dual_batch, ubatches: 5"
        self.run_routing("sweep", "phase: prefill, requests: {lengths: [64, 160, 99]}", ubatches=4, option=option, more="sweep: {policies.dual.ubatches: [4, 6]}")
        first, second = (self.folder / "sweep" / f"point-000{point}" for point in (0, 1))
        for point, expected in ((first, [None, None, None]), (second, [0, None, 0])):
            summaries = [json.loads((point / policy / "summary.json").read_text()) for policy in ("whole", "dual", "other")]
            self.assertEqual([summary["measured_in_point"] for summary in summaries], expected)
            for policy, summary in zip(("dual", "other"), summaries[1:]):
                self.assertEqual(summary["verification"]["verdict"], "verified")
                self.assertTrue(summary["verification"]["baseline"].endswith(f"{point.name}/{policy}/reference"), "the routers chose alike: the test shows nothing")
        files = [point / "other/reference/rank-00001.h5" for point in (first, second)]
        self.assertTrue(files[0].samefile(files[1]))

    def test_replayed_choices_are_judged_and_reported(self):
        run, outcome = self.run_routing("replayed", "phase: prefill, requests: {lengths: [64, 100]}", verify="replay")
        routing = json.loads((run / "dual" / "summary.json").read_text())["verification"]["routing"]
        self.assertGreater(routing["different"], 0, "the routers chose alike: the test shows nothing")
        self.assertEqual((routing["source"], routing["excluded_share"], routing["wrong"]), ("replayed", 0, 0))
        self.assertLess(float(routing["max_gap_share"]), 1)
        self.assertIn(f"verdict verified (routing replayed, {routing['different']} of", outcome.out)
        self.assertFalse((run / "dual" / "reference").exists())
        natural = self.changed(run / "dual", "route/natural_expert_ids", lambda ids: ids.__setitem__((5, 7), ids[5, 8]))
        self.assertIn("routing: layer 5, rank 1", str(self.report(run / "whole", natural, code=4)["problems"]))

    def test_contexts_are_replayed_and_judged(self):
        workload = "phase: decode, requests: {context_lengths: [40, 33, 21]}, steps: 2"
        run, _ = self.run_routing("two", workload)
        with h5py.File(run / "whole" / "rank-00001.h5") as file:
            self.assertEqual(file["context_route/expert_ids"].shape, (24, 94, 4))
            self.assertTrue(np.isfinite(file["context_route/logits"][:]).all())
        both = workload.replace("[40, 33, 21]", "[40, 33, 21, 40, 33, 21]")  # what the two ranks had
        one, _ = self.run_routing("one", both, ranks=1, routing=f"{{replay: {run / 'whole'}}}")
        report = self.report(run / "whole", one / "whole")
        self.assertEqual(report["routing"]["context_tokens"], 2 * 94)
        self.assertEqual(report["routing"]["source"], "replayed")
        # Twin: other experts in the context of the run that is replayed.
        other = self.changed(run / "whole", "context_route/expert_ids", lambda ids: ids.__setitem__((3, 5), ids[3, 5][[1, 0, 2, 3]]))
        again, _ = self.run_routing("again", both, ranks=1, routing=f"{{replay: {other}}}")
        problems = str(self.report(run / "whole", again / "whole", code=4)["problems"])
        self.assertIn("routing: layer 3, rank 0, request 3, position 5 (context): experts", problems)

    def test_contexts_that_part_within_a_run_are_followed(self):
        # Other numerics fill a context of their own, in which routers part before the first step.
        workload = "phase: decode, requests: {context_lengths: [70, 33, 90]}"
        for verify, reference in {"natural": "dual/reference", "replay": "whole"}.items():
            run, _ = self.run_routing(verify, workload, verify=verify, option=", numerics: batch_invariant")
            verification = json.loads((run / "dual" / "summary.json").read_text())["verification"]
            self.assertTrue(verification["baseline"].endswith(reference), verification["baseline"])
            self.assertEqual(verification["routing"]["context_tokens"], 2 * 193)
            self.assertEqual(verification["routing"]["excluded_share"], 0)
            self.assertGreater(verification["routing"]["different"], 0, "the routers chose alike: the test shows nothing")
        # Twin: against the baseline with the natural choices too little is left to compare.
        self.assertIn("excluded", str(self.report(self.folder / "natural" / "whole", self.folder / "natural" / "dual", code=4)["problems"]))


class MultipliedWeights(RoutingTest):
    """Experts whose weights add up to 4, and a shared one: they amplify the roundings of the layers before."""
    MODEL = {**GROUPED, "num_hidden_layers": 5, "num_experts_per_tok": 1, "routed_scaling_factor": 4.0, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}

    def test_bounds_hold_what_the_baselines_experts_amplify(self):
        run, outcome = self.run_routing("amplified", "phase: prefill, requests: {lengths: [40, 70]}", verify="replay", ubatches=3)
        self.assertIn("verdict verified (routing replayed", outcome.out)
        for path in sorted((run / "whole").glob("rank-*.h5")):
            with h5py.File(path) as file:
                most = file["rounding/most"][:]
            self.assertEqual(most[0], 6, "the first layer is dense")
            growth = most[1:] / (most[:-1] + 6)
            self.assertTrue(((growth > 1.05) & (growth < 4)).all(), most)
        amplified = self.report(run / "whole", run / "dual")
        without = shutil.copytree(run / "whole", self.folder / "without")
        for path in without.glob("rank-*.h5"):
            with h5py.File(path, "r+") as file:
                file["rounding/most"][:] = 0
        outcome = dovetail("verify", without, run / "dual", "--format", "json")  # whatever the verdict
        plain = json.loads(outcome.out)
        bounds = [{tensor["name"]: tensor["max_error"] for tensor in report["tensors"]} for report in (amplified, plain)]
        self.assertGreater(bounds[0]["hidden"], 1.3 * bounds[1]["hidden"])
        self.assertEqual(bounds[0]["latent_0"], bounds[1]["latent_0"])
        self.assertEqual([("amplified by experts' weights" in report["rule"]["reason"]) for report in (amplified, plain)], [True, False])


class Float32Routers(RoutingTest):
    """Routers that compute in float32 in a run of bfloat16: what is recorded of them is what they chose by."""
    SOFTMAX = {**GROUPED, "model_type": "deepseek_v2", "topk_method": "group_limited_greedy"}

    def check_choices(self, file, folder):
        """Logits that bfloat16 could not hold; the experts are the best by them, in two of four groups, and scores are their sigmoids."""
        logits = file[folder + "/logits"][1:]
        self.assertEqual(logits.dtype, np.float32)
        self.assertGreater((logits.view(np.uint32) & 0xffff != 0).mean(), 0.9)
        deciding = logits
        if folder + "/scores" in file:
            deciding = file[folder + "/scores"][1:]
            bias = deciding.astype(np.float64) - 1 / (1 + np.exp(-logits.astype(np.float64)))
            self.assertLess(np.abs(bias - bias[:, :1]).max(), 1e-6, "one bias for all tokens of a layer")
        chosen = folder + ("/natural_expert_ids" if folder + "/natural_expert_ids" in file else "/expert_ids")
        for token, ids in zip(deciding.reshape(-1, 16), file[chosen][1:].reshape(-1, 4)):
            allowed = np.isin(np.arange(16) // 4, ids // 4)
            best = np.argsort(-np.where(allowed, token, -np.inf), kind="stable")[:4]
            self.assertEqual(best.tolist(), ids.tolist())

    def test_recorded_logits_are_what_decided(self):
        for name, model in (("sigmoid", GROUPED), ("softmax", self.SOFTMAX)):
            with self.subTest(name):
                self.MODEL = model
                # Other numerics: the two policies differ in bits, in the contexts as well.
                run, outcome = self.run_routing(name, "phase: decode, requests: {context_lengths: [70, 33, 90]}, steps: 2", verify="replay", option=", numerics: batch_invariant")
                self.assertIn("verdict verified (routing replayed", outcome.out)
                logits = []
                for policy in ("whole", "dual"):
                    for path in sorted((run / policy).glob("rank-*.h5")):
                        with h5py.File(path) as file:
                            self.check_choices(file, "route")
                            self.check_choices(file, "context_route")
                            logits.append(file["context_route/logits"][1:])
                self.assertEqual(len(logits), 4)
                self.assertGreater((logits[0] != logits[2]).sum(), 0, "both policies have the same bits: the test shows nothing")


class GroupedRouting(RoutingTest):
    """Biased sigmoids, experts of two of four groups, and a cache of latents."""
    MODEL = GROUPED
    DTYPE = "float32"

    def most_groups(self, folder, dataset="route/expert_ids"):
        """Of any token, over all ranks."""
        most = 0
        for path in sorted(folder.glob("rank-*.h5")):
            with h5py.File(path) as file:
                ids = file[dataset][:]
                self.assertTrue((ids[0] == -1).all(), "the first layer is dense")
                most = max(most, max(len(set(token // 4)) for layer in ids[1:] for token in layer))
        return most

    def test_scores_and_groups_are_recorded_and_judged(self):
        run, outcome = self.run_routing("natural", "phase: prefill, requests: {lengths: [40, 70]}", verify="replay")
        self.assertIn("verdict verified (routing replayed", outcome.out)
        with h5py.File(run / "whole" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["expert_groups"], "4 2 sum_of_two")
            logits, scores = file["route/logits"][1:].astype(np.float64), file["route/scores"][1:].astype(np.float64)
            bias = scores - 1 / (1 + np.exp(-logits))
            self.assertLess(np.abs(bias - bias[:, :1]).max(), 1e-6, "one bias for all tokens of a layer")
            self.assertGreater(np.abs(bias).max(), 1e-3)
            self.assertEqual(file["output/latent_2"].shape, (110, 40))
            self.assertNotIn("output/key_2", file)
        self.assertEqual(self.most_groups(run / "whole"), 2)
        score = self.changed(run / "dual", "route/scores", lambda values: values.__setitem__((3, 7, 2), values[3, 7, 2] + 0.01))
        self.assertIn("routing: layer 3, rank 1", str(self.report(run / "whole", score, code=4)["problems"]))

        def leave_groups(ids):
            ids[3, 7, 3] = next(expert for expert in range(16) if expert // 4 not in ids[3, 7] // 4)
        choice = self.changed(run / "dual", "route/natural_expert_ids", leave_groups)
        self.assertIn("are not the best by the router's scores", str(self.report(run / "whole", choice, code=4)["problems"]))
        latent = self.changed(run / "dual", "output/latent_2", lambda values: values.__setitem__(5, values[6]))
        self.assertIn("latent_2: row error", str(self.report(run / "whole", latent, code=4)["problems"]))

    def test_contexts_have_scores_too(self):
        run, outcome = self.run_routing("decode", "phase: decode, requests: {context_lengths: [40, 33, 21]}, steps: 2", verify="replay")
        self.assertIn("verdict verified", outcome.out)
        with h5py.File(run / "whole" / "rank-00000.h5") as file:
            self.assertTrue(np.isfinite(file["context_route/scores"][1:]).all())
        self.assertLessEqual(self.most_groups(run / "dual", "context_route/expert_ids"), 2)

    def test_given_experts_are_of_few_groups(self):
        workload = "phase: prefill, requests: {lengths: [40, 70]}"
        for routing in ("balanced", "{zipf: 1.1}"):
            run, outcome = self.run_routing("given" if routing == "balanced" else "zipf", workload, routing=routing)
            self.assertIn("verdict verified (routing synthetic", outcome.out)
            self.assertEqual(self.most_groups(run / "whole"), 2)
        again, _ = self.run_routing("again", workload, routing=f"{{replay: {run / 'whole'}}}")
        self.assertEqual(self.most_groups(again / "whole"), 2)
        other = self.changed(run / "whole", "route/expert_ids", lambda ids: ids.__setitem__((3, 7), [0, 4, 8, 12]))
        experiment = (self.folder / "again.yaml").read_text().replace(str(run / "whole"), str(other))
        outcome = dovetail("check", self.write(experiment, "refused.yaml"), "--ranks", 2)
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("gives a token experts of 4 groups; the model allows experts of 2 of its 4 groups", outcome.err)


if __name__ == "__main__":
    unittest.main()
