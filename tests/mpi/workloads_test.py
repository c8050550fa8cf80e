#!/usr/bin/env python3
"""Workloads of serving systems under mpirun: decode, chunked and mixed batches, pages, pipeline stages, embeddings, M-RoPE, traces, routing.

workloads_test.py [unittest arguments]
"""
import json
import unittest

import h5py
import numpy as np
from numpy.lib.recfunctions import repack_fields

from cli import FP32_BOUND, TOP, CliTest, dovetail, mpirun_apart

EXPERIMENT = """
experiment: workloads
model: {architecture: qwen3_moe, config: %(config)s, weights: {seed: 42}%(model)s}
parallel: {expert_parallel: %(ep)d}
workload: {%(workload)s, seed: 5}
execution: {warmup: 1, iterations: %(iterations)d, timeout_s: 30%(execution)s}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
  - {name: pages, schedule: dual_batch, ubatches: 3, page_size: 4, hand_off: inline}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: %(outputs)s, timing: ops, profiled_iterations: 1}
"""
ALL_OUTPUTS = "[hidden, logits, routing]"
CONFIG = "models/configs/qwen3-moe-tiny.json"


def experiment_text(workload, ranks=2, **values):
    fields = {"ep": ranks, "config": CONFIG, "model": "", "execution": "", "iterations": 2, "outputs": ALL_OUTPUTS, "workload": workload}
    return EXPERIMENT % {**fields, **values}


class Workload(CliTest):
    def run_workload(self, name, workload, ranks=2, code=0, **values):
        path = self.write(experiment_text(workload, ranks, **values), name + ".yaml")
        return self.run_experiment(ranks, path, name, code=code)

    def assert_close(self, rows, reference, expected_number):
        """Each row of `rows` equals the one of `reference` within the rule for float32."""
        self.assertEqual(len(rows), expected_number)
        largest = max(np.abs(row).max() for row in reference.values())
        for key, row in rows.items():
            self.assertLessEqual(np.abs(row - reference[key]).max(), FP32_BOUND * largest, str(key))


class Steps(Workload):
    WHOLE = "phase: prefill, requests: {count: 4, length: 24}"

    def test_decode_and_chunks_equal_the_whole(self):
        whole, _ = self.run_workload("whole", self.WHOLE)
        reference = self.rows(whole / "sequential")
        logits = self.rows(whole / "sequential", "output/logits")
        for name, workload, rows in [
            ("decode", "phase: decode, requests: {count: 4, context_length: 20}, steps: 4", 2 * 4 * 4),
            ("chunked", "phase: prefill, requests: {count: 4, length: 8, context_length: 8}, steps: 2", 2 * 4 * 16),
            ("mixed", "phase: mixed, requests: {lengths: [24, 1, 7, 3], context_lengths: [0, 23, 17, 21]}", 2 * 35),
        ]:
            run, _ = self.run_workload(name, workload)
            for policy in ("sequential", "dual_batch", "pages"):
                self.assert_close(self.rows(run / policy), reference, rows)
            last = {key: row for key, row in self.rows(run / "pages", "output/logits").items() if key[1] == 23}
            self.assert_close(last, logits, 8)

    def test_rows_and_times_of_every_step_are_there(self):
        run, _ = self.run_workload("decode", "phase: decode, requests: {count: 4, context_length: 20}, steps: 4")
        with h5py.File(run / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file["timing/step_ns"].shape, (2, 4))
            self.assertTrue((file["timing/step_ns"][:] > 0).all())
            self.assertEqual(file["timing/ops"].shape[0], 4)
            self.assertTrue((file["timing/profiled_step_ns"][:] > 0).all())
            further = file["timing/further_step_ns"][:]
            self.assertTrue((further[:, [0, 1, 3]] == -1).all(), "a CPU has no SMs and no kernels to enqueue")
            self.assertTrue((further[:, 2] > 0).all())
            self.assertEqual(file["timing/before_ns"].attrs["columns"], "agreement,preparation,meeting")
            before = file["timing/before_ns"][:]
            self.assertEqual(before.shape, (2, 4, 3))
            self.assertTrue((before[..., :2] > 0).all())
            self.assertTrue((before[..., 2] == 0).all())
            self.assertEqual(list(file["input/positions"][:]), [20] * 4 + [21] * 4 + [22] * 4 + [23] * 4)
            self.assertEqual(list(file["input/request_id"][:]), [4, 5, 6, 7] * 4)
            self.assertEqual(file["output/logits"].shape, (16, 1024))
        summary = json.loads((run / "dual_batch" / "summary.json").read_text())
        self.assertIsNotNone(summary["metrics"])

    def test_grids_agree(self):
        workload = "phase: mixed, requests: [{count: %d, length: 1, context_length: 9}, {count: %d, length: 13}], steps: 2, context: %s"
        for context in ("prefill", "random"):
            one, _ = self.run_workload("one-" + context, workload % (8, 4, context), ranks=1)
            for ranks in (2, 4):
                other, _ = self.run_workload(f"{ranks}-{context}", workload % (8 // ranks, 4 // ranks, context), ranks=ranks)
                self.assert_verified(one / "sequential", other / "dual_batch")

    def test_pages_change_no_bit(self):
        workload = "phase: decode, requests: {context_lengths: [3, 31, 8, 16]}, steps: 3"
        first, _ = self.run_workload("first", workload)
        for size, tokens in ((1, 0), (7, 728), (64, 64 * 4)):
            run, _ = self.run_workload(f"page-{size}", workload, execution=f", page_size: {size}, cache_tokens: {tokens}")
            self.assert_verified(first / "sequential", run / "sequential", "bitwise")
            self.assert_verified(first / "dual_batch", run / "dual_batch", "bitwise")


class Inputs(Workload):
    def test_eight_experts_of_a_token_work_in_every_ubatch(self):
        config = json.loads((TOP / CONFIG).read_text())
        path = self.write(json.dumps({**config, "num_experts_per_tok": 8}), "config.json")
        run, _ = self.run_workload("top-8", "phase: prefill, requests: {lengths: [19, 33, 8]}", config=path)
        for policy in ("dual_batch", "pages"):
            self.assert_verified(run / "sequential", run / policy)
            with h5py.File(run / policy / "rank-00000.h5") as file:
                self.assertEqual(file["route/expert_ids"].shape, (4, 60, 8))

    def test_two_stages_equal_the_whole_to_the_bit(self):
        for name, workload in (("prefill", "phase: prefill, requests: {lengths: [19, 5, 8]}"),
                               ("decode", "phase: decode, requests: {context_lengths: [19, 5, 8]}, steps: 3, context: random")):
            whole, _ = self.run_workload(name + "-whole", workload)
            first, _ = self.run_workload(name + "-first", workload, model=", layers: [0, 2]", outputs="[hidden, routing]")
            given = f", inputs: {{hidden: {first / 'sequential'}}}"
            second, _ = self.run_workload(name + "-second", workload + given, model=", layers: [2, 4]")
            for dataset in ("output/hidden", "output/logits"):
                expected = self.rows(whole / "sequential", dataset)
                found = self.rows(second / "sequential", dataset)
                self.assertEqual(found.keys(), expected.keys())
                for key, row in found.items():
                    np.testing.assert_array_equal(row, expected[key], str(key))
            # Twin: without the first stage's hidden states the second gives something else.
            self.assertFalse(np.array_equal(self.rows(first / "sequential")[(0, 0)] if name == "prefill" else 0,
                                            self.rows(whole / "sequential").get((0, 0), 1)))

    def test_the_first_layers_are_a_model_of_a_config_cut_by_hand_to_the_bit(self):
        config = json.loads((TOP / CONFIG).read_text())
        path = self.write(json.dumps({**config, "num_hidden_layers": 2}), "cut.json")
        workload = "phase: prefill, requests: {lengths: [19, 5, 8]}"
        by_hand, _ = self.run_workload("by-hand", workload, config=path)
        cut, _ = self.run_workload("cut", workload, model=", layers: 2")
        for policy in ("sequential", "dual_batch"):
            for dataset in ("output/hidden", "output/logits"):
                expected = self.rows(by_hand / policy, dataset)
                found = self.rows(cut / policy, dataset)
                self.assertEqual(found.keys(), expected.keys())
                for key, row in found.items():
                    np.testing.assert_array_equal(row, expected[key], str(key))
        whole, _ = self.run_workload("whole", workload)
        self.assertFalse(np.array_equal(next(iter(self.rows(whole / "sequential").values())), next(iter(self.rows(cut / "sequential").values()))))
        _, outcome = self.run_workload("beyond", workload, model=", layers: 5", code=2)
        self.assertRegex(outcome.err, "model.layers is 5, and the model of .* has 4 layers; allowed: 1 to 4, or all")

    def test_stages_that_do_not_fit_are_refused(self):
        workload = "phase: prefill, requests: {lengths: [19, 5, 8]}"
        first, _ = self.run_workload("first", workload, model=", layers: [0, 1]", outputs="[hidden]")
        given = f", inputs: {{hidden: {first / 'sequential'}}}"
        _, outcome = self.run_workload("gap", workload + given, model=", layers: [2, 4]", code=2)
        self.assertRegex(outcome.err, r"is of layers \[0, 1\]; allowed for layers from 2 on")
        _, outcome = self.run_workload("logits", workload, model=", layers: [0, 2]", code=2)
        self.assertRegex(outcome.err, "logits of a stage that does not reach the model's last layer")
        check = dovetail("check", self.folder / "logits.yaml", "--ranks", 2)
        self.assertEqual(check.code, 2, str(check))
        self.assertRegex(check.err, "logits of a stage that does not reach the model's last layer")
        _, outcome = self.run_workload("other", workload.replace("5", "6") + given, model=", layers: [1, 4]", code=2)
        self.assertRegex(outcome.err, "was run with another workload.requests")
        _, outcome = self.run_workload("no-input", workload, model=", layers: [1, 4]", code=2)
        _, outcome = self.run_workload("beyond", workload, model=", layers: [0, 5]", outputs="[hidden]", code=2)
        self.assertRegex(outcome.err, "layers")

    def test_embeds_and_mrope_are_verified_on_every_grid(self):
        for name, extra in (("embeds", "inputs: embeds"), ("mrope", "positions: mrope")):
            workload = "phase: prefill, requests: {count: %d, length: 40, context_length: 3}, steps: 2, " + extra
            one, _ = self.run_workload(name + "-one", workload % 4, ranks=1)
            two, _ = self.run_workload(name + "-two", workload % 2)
            self.assert_verified(one / "sequential", two / "pages")
            plain, _ = self.run_workload(name + "-plain", (workload % 2).replace(extra, "inputs: ids"))
            refused = dovetail("verify", plain / "sequential", two / "sequential")
            self.assertEqual(refused.code, 4, "other inputs must be seen")
        with h5py.File(two / "sequential" / "rank-00000.h5") as file:
            positions = file["input/mrope_positions"][:]
            self.assertEqual(positions.shape, (3, 160))
            self.assertTrue((positions[1] != positions[2]).any(), "an image is among the tokens")


    def test_a_recorded_routing_that_does_not_fit_is_refused(self):
        workload = "phase: prefill, requests: {count: 2, length: 8, context_length: 8}"
        first, _ = self.run_workload("first", workload + ", routing: {zipf: 1.2}")
        replay = f", routing: {{replay: {first / 'sequential'}}}"
        again, _ = self.run_workload("again", workload + replay)  # contexts are routed as they were, too
        self.assert_verified(first / "sequential", again / "sequential", "bitwise")
        _, outcome = self.run_workload("stage", workload + replay, model=", layers: [0, 2]", outputs="[hidden]", code=2)
        self.assertRegex(outcome.err, r"routing of layers all; this run is of layers \[0, 2\]")
        with h5py.File(first / "sequential" / "rank-00001.h5", "r+") as file:
            file["route/expert_ids"][1, 3, 0] = 16
        _, outcome = self.run_workload("expert", workload + replay, code=2)
        self.assertRegex(outcome.err, "rank-00001.h5: /route/expert_ids holds expert 16; the model has experts 0 to 15")
        with h5py.File(first / "sequential" / "rank-00001.h5", "r+") as file:
            file["route/expert_ids"][1, 3, 0] = file["route/expert_ids"][1, 3, 1]
        _, outcome = self.run_workload("twice", workload + replay, code=2)
        refusal = r"rank-00001.h5: /route/expert_ids gives a token expert \d+ twice; the experts of a token are different ones"
        self.assertRegex(outcome.err, refusal)
        checked = dovetail("check", self.folder / "twice.yaml", "--ranks", 2)
        self.assertEqual(checked.code, 2, str(checked))
        self.assertRegex(checked.err, refusal)


class Variants(Workload):
    """Batches of one shape that iterations take in turn: every way to give them their inputs, and every iteration judged."""

    def check(self, run, variants, steps, iterations=4, policies=("dual_batch", "pages")):
        for policy in policies:
            judged = json.loads((run / policy / "summary.json").read_text())["iterations"]
            self.assertEqual((judged["timed"], judged["profiled"], judged["poisoned"]), (iterations, 1, variants), policy)
            self.assertEqual((judged["variants"], judged["steps_per_iteration"]), (variants, steps))
            self.assertEqual((judged["as_recorded"], judged["unjudged"]), ((iterations + 1 + variants) * steps, 0))
            with h5py.File(run / policy / "rank-00000.h5") as file:
                self.assertEqual(file["timing/step_ns"].shape, (iterations, steps))
                hashes = file["hash/timed"][:, :, 2:]
                self.assertEqual(len(np.unique(hashes[:, 0, 0])), variants)
                self.assertEqual(file.attrs["schema_version"], 7)

    def test_all_kinds_of_inputs_are_verified(self):
        given, _ = self.run_workload("given", "variants: 3, requests: {count: 2, length: 9}, routing: {zipf: 1.2}",
                                     iterations=4)
        for name, workload in (
                ("decode", "phase: decode, requests: {context_lengths: [9, 20, 3]}, steps: 3, variants: 3"),
                ("random", "phase: decode, requests: {context_lengths: [9, 20, 3]}, steps: 2, variants: 2, context: random, inputs: embeds"),
                ("mixed", "phase: mixed, requests: [{count: 3, length: 1, context_length: 7}, {lengths: [13]}], variants: 2, positions: mrope"),
                ("balanced", "phase: prefill, requests: {count: 3, length: 11}, variants: 3, routing: balanced"),
                ("replayed", f"variants: 3, requests: {{count: 2, length: 9}}, routing: {{replay: {given / 'sequential'}}}")):
            run, _ = self.run_workload(name, workload, iterations=4, outputs="[hidden, logits, kv, routing]")
            variants = 2 if name in ("random", "mixed") else 3
            self.check(run, variants, {"decode": 3, "random": 2}.get(name, 1))
        self.assert_verified(given / "sequential", run / "sequential", "bitwise")

    def test_the_first_variant_is_the_workload_without(self):
        workload = "phase: mixed, requests: {lengths: [5, 9], context_lengths: [3, 0]}, steps: 2"
        plain, _ = self.run_workload("plain", workload)
        run, _ = self.run_workload("variants", workload + ", variants: 2")
        expected = self.rows(plain / "sequential")
        found = self.rows(run / "sequential")
        self.assertEqual(len(found), 2 * len(expected))
        self.assert_close(expected, found, len(expected))  # to the bit where a library does not look at where rows lie
        others = [row for key, row in found.items() if key not in expected]
        self.assertFalse(any(np.array_equal(row, other) for row in others for other in expected.values()))

    def test_grids_agree(self):
        workload = "phase: mixed, requests: [{count: %d, length: 1, context_length: 9}, {count: %d, length: 13}], steps: 2, variants: 2"
        one, _ = self.run_workload("one", workload % (4, 2), ranks=1, outputs="[hidden, kv]")
        two, _ = self.run_workload("two", workload % (2, 1), outputs="[hidden, kv]")
        self.assert_verified(one / "sequential", two / "dual_batch")
        with h5py.File(two / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file["output/key_3"].shape[0], file["input/input_ids"].shape[0])

    def test_sizes_follow(self):
        path = self.write(experiment_text("requests: {count: 2, length: 10}, variants: 2, inputs: embeds"))
        grown = json.loads(dovetail("check", path, "--ranks", 2, "--format", "json", "--set", "execution.rounds=1").out)
        plain = json.loads(dovetail("check", path, "--ranks", 2, "--format", "json", "--set", "workload.variants=1",
                                    "--set", "execution.rounds=1").out)
        self.assertEqual([rank["variants"] for rank in grown["grid"]["ranks"]], [2, 2])
        for own, other in zip(grown["memory_bytes_by_rank"], plain["memory_bytes_by_rank"]):
            for part in ("kv cache", "given inputs", "outputs"):
                self.assertEqual(own[part], 2 * other[part], part)
            self.assertEqual(own["exchange buffers (worst case)"], other["exchange buffers (worst case)"])

    def test_a_vetoed_iteration_is_judged_by_the_baseline(self):
        run, outcome = self.run_workload("veto", "requests: {count: 2, length: 12}, steps: 2",
                                         iterations=4, execution="}\nfault: {kind: veto, rank: 1, iteration: 3")
        self.assertIn("fault injected", outcome.out)
        judged = json.loads((run / "dual_batch" / "summary.json").read_text())["iterations"]
        self.assertEqual((judged["as_recorded"], judged["as_baseline"], judged["unjudged"]), (10, 2, 0))

    def test_files_without_hashes_are_judged_by_the_recorded_iteration_and_say_so(self):
        run, _ = self.run_workload("old", "requests: {count: 2, length: 12}", outputs="[hidden]")
        for path in run.glob("*/rank-*.h5"):
            with h5py.File(path, "r+") as file:
                del file["hash"]
                file.attrs["schema_version"] = 3
                for name, table in list(file["schedule"].items()):
                    rows, attributes = table[:], dict(table.attrs)
                    del file["schedule"][name]
                    older = file["schedule"].create_dataset(name, data=repack_fields(rows[["layer", "ubatch", "phase", "lane", "waits"]]))
                    for key, value in attributes.items():
                        older.attrs[key] = np.bytes_(value) if isinstance(value, str) else value
        outcome = dovetail("verify", run / "sequential", run / "dual_batch")
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertIn("iterations: only the last one is judged", outcome.out)

    def test_more_variants_than_iterations_are_refused(self):
        _, outcome = self.run_workload("many", "requests: {count: 2, length: 12}, variants: 3", code=2)
        self.assertRegex(outcome.err, "workload.variants: 3, and policy sequential has 2 iterations")


class Requests(Workload):
    def test_a_trace_gives_requests_to_ranks(self):
        trace = self.write('{"length": 5, "rank": 1}\n{"input_ids": [7, 8, 9], "context_length": 4}\n{"length": 2}\n', "trace.jsonl")
        run, _ = self.run_workload("trace", f"phase: mixed, requests: {{file: {trace}}}")
        rows = self.rows(run / "pages", "input/input_ids")
        self.assertEqual(len(rows), 10)
        self.assertEqual([int(rows[(1, position)]) for position in (4, 5, 6)], [7, 8, 9])
        with h5py.File(run / "pages" / "rank-00001.h5") as file:
            self.assertIn(0, file["input/requests"][:])

    def test_bad_traces_are_refused_with_their_place(self):
        for text, expected in (('{"length": 5}\n{"lenght": 5}\n', r"trace.jsonl:2.*lenght"), ('{"length": 0}\n', r"trace.jsonl:1"),
                               ('{"length": 5, "rank": 2}\n', r"trace.jsonl:1.*rank"), ('{"input_ids": [1024]}\n', r"trace.jsonl:1"),
                               ("", r"trace.jsonl")):
            trace = self.write(text, "trace.jsonl")
            _, outcome = self.run_workload("refused", f"phase: prefill, requests: {{file: {trace}}}", code=2)
            self.assertRegex(outcome.err, expected)
            self.assertFalse((self.folder / "refused").exists())

    def test_ranks_that_read_other_traces_are_refused(self):
        line = '{"length": 5}\n'
        for second, code in ((line + '{"length": 6}\n', 2), (line + line, 0)):
            folders = self.write_apart("trace.jsonl", line + line, second)
            path = self.write(experiment_text("phase: prefill, requests: {file: trace.jsonl}", config=TOP / CONFIG))
            outcome = mpirun_apart(folders, "run", path, "--out", self.folder / "apart")
            self.assertEqual(outcome.code, code, str(outcome))
            self.assertEqual(outcome.err.count("ranks read different contents of trace.jsonl"), 1 if code else 0, str(outcome))
            self.assertEqual((self.folder / "apart").exists(), code == 0)

    def test_given_inputs_count_in_the_memory(self):
        memory = {}
        for name, extra in (("none", ""), ("embeds", ", inputs: embeds"), ("routing", ", routing: balanced")):
            path = self.write(experiment_text("phase: prefill, requests: {count: 2, length: 10}" + extra))
            check = dovetail("check", path, "--ranks", 2, "--format", "json")
            self.assertEqual(check.code, 0, str(check))
            memory[name] = [rank["given inputs"] for rank in json.loads(check.out)["memory_bytes_by_rank"]]
        # 20 tokens: hidden size 128 in float32; experts of 4 layers, 4 each, of 8 bytes.
        self.assertEqual(memory, {"none": [0, 0], "embeds": [20 * 128 * 4] * 2, "routing": [20 * 4 * 4 * 8] * 2})

    def test_caches_that_do_not_fit_are_refused(self):
        workload = "phase: decode, requests: {count: 3, context_length: 30}, steps: 2"
        self.run_workload("fits", workload, execution=", page_size: 16, cache_tokens: 96")
        for execution, expected in ((", page_size: 16, cache_tokens: 80", "policy sequential, rank 0: .*pages"),
                                    (", page_size: 16, cache_tokens: 100", "cache_tokens")):
            _, outcome = self.run_workload("refused", workload, execution=execution, code=2)
            self.assertRegex(outcome.err, expected)
            self.assertFalse((self.folder / "refused").exists())

    def test_lognormal_lengths(self):
        run, _ = self.run_workload("lognormal", "phase: prefill, requests: {lognormal: {count: 12, median: 9, sigma: 0.8, max_length: 40}}")
        with h5py.File(run / "pages" / "rank-00000.h5") as file:
            lengths = np.bincount(file["input/request_id"][:])
        self.assertEqual(len(lengths), 12)
        self.assertGreater(len(set(lengths)), 4)
        self.assertLessEqual(lengths.max(), 40)

    def test_synthetic_routing(self):
        imbalance = {}
        for name, routing in (("balanced", "balanced"), ("zipf", "{zipf: 1.2}")):
            workload = "phase: prefill, requests: {count: %d, length: 32}, routing: " + routing
            one, _ = self.run_workload(name + "-one", workload % 4, ranks=1)
            two, _ = self.run_workload(name + "-two", workload % 2)
            self.assert_verified(one / "sequential", two / "dual_batch")
            traffic = json.loads((two / "dual_batch" / "summary.json").read_text())["traffic"]
            self.assertEqual(sum(map(sum, traffic["tokens_per_expert"])), 4 * 4 * 32 * 4)
            imbalance[name] = traffic["imbalance_experts"]
            self.assertEqual(len(imbalance[name]), 4)
        self.assertLess(max(imbalance["balanced"]), 1.01)
        self.assertGreater(min(imbalance["zipf"]), 2)

    def test_rows_of_experts_are_counted_by_layer(self):
        # The oracle: the experts that every token of every step chose. Layers 0, 2, 3 and 4 of the second model are dense.
        dense = "tests/fixtures/tied-dense-sharded/config.json"
        for name, workload, model in (
                ("moe", "phase: prefill, requests: {count: 5, length: 9}, steps: 3, routing: {zipf: 1.2}", {}),
                ("dense", "phase: decode, requests: {count: 5, context_length: 7}, steps: 2", {"config": dense})):
            run, _ = self.run_workload(name, workload, **model)
            for policy in ("sequential", "dual_batch", "pages"):
                chosen, counted = [], []
                for rank in (0, 1):
                    with h5py.File(run / policy / f"rank-0000{rank}.h5") as file:
                        chosen.append(file["route/expert_ids"][:])
                        counted.append(file["traffic/tokens_per_expert"][:])
                chosen, counted = np.concatenate(chosen, axis=1), np.concatenate(counted, axis=1)
                expected = [np.bincount(layer[layer >= 0], minlength=counted.shape[1]).tolist() for layer in chosen]
                self.assertEqual(counted.tolist(), expected)
                if name == "dense":
                    self.assertEqual([sum(layer) > 0 for layer in expected], [False, True, False, False, False, True])
                traffic = json.loads((run / policy / "summary.json").read_text())["traffic"]
                self.assertEqual(traffic["tokens_per_expert"], expected)
                ranks = counted.reshape(len(counted), 2, -1).sum(axis=2)
                self.assertEqual(traffic["tokens_per_rank"], ranks.tolist())
                self.assertAlmostEqual(traffic["imbalance_ranks"], ranks.max(axis=1).sum() / ranks.mean(axis=1).sum())


if __name__ == "__main__":
    unittest.main(verbosity=2)
