#!/usr/bin/env python3
"""Whole runs against what transformers computes on the fixtures: a fault that all policies share passes `dovetail verify`, but not this.

anchor_test.py [unittest arguments]
"""
import json
import unittest

import h5py
import numpy as np

from cli import FP32_BOUND, TOP, CliTest

EXPERIMENT = """
experiment: anchor
model: {architecture: qwen3_moe, config: %(folder)s/config.json, weights: {checkpoint: %(folder)s}}
parallel: {expert_parallel: %(ranks)d}
workload: {phase: prefill, requests: {file: %(trace)s}}
execution: {dtype: float32, warmup: 1, iterations: 2, timeout_s: 60}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
  - {name: three_inline, schedule: dual_batch, ubatches: 3, split: request, hand_off: inline, page_size: 4}
  - {name: gather, schedule: dual_batch, ubatches: 2, exchange: gather}
  - {name: staged, stages: prefill, ubatches: 2}
record: {outputs: [hidden, logits, logits_all], timing: steps}
"""
# Fixtures whose inputs are token ids, with the numbers of ranks that divide their experts.
FIXTURES = {"qwen3-moe-tiny": (1, 2), "odd-heads-stacked": (1, 2, 3), "tied-dense-sharded": (1, 2), "all-experts-half": (1, 3)}


def read_safetensors(path):
    """The tensors of a file of float32 and integers."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    types = {"F32": np.float32, "I64": np.int64, "I32": np.int32}
    return {name: np.frombuffer(data[8 + length:][slice(*entry["data_offsets"])], types[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items() if name != "__metadata__"}


def row_error(row, reference):
    row, reference = row.astype(np.float64), reference.astype(np.float64)
    return np.linalg.norm(row - reference) / np.linalg.norm(reference)


class Anchor(CliTest):
    def run_fixture(self, name, ranks):
        """Runs the requests of a fixture; returns the folder and transformers' requests: (ids, hidden, logits)."""
        folder = TOP / "tests" / "fixtures" / name
        expected = read_safetensors(folder / "expected.safetensors")
        ends = np.cumsum(expected["lengths"])
        requests = [tuple(expected[key][end - length:end] for key in ("input_ids", "hidden", "logits"))
                    for end, length in zip(ends, expected["lengths"])]
        lines = [json.dumps({"input_ids": ids.tolist(), "rank": index % ranks}) for index, (ids, _, _) in enumerate(requests)]
        trace = self.write("\n".join(lines) + "\n", "trace.jsonl")
        path = self.write(EXPERIMENT % {"folder": folder, "ranks": ranks, "trace": trace}, f"{name}-{ranks}.yaml")
        run, _ = self.run_experiment(ranks, path, f"{name}-{ranks}")
        return run, requests

    def check_policy(self, folder, requests):
        """Each token's rows are those of transformers, and not those of its neighbour; returns the number of tokens."""
        num_tokens = 0
        for path in sorted(folder.glob("rank-*.h5")):
            with h5py.File(path) as file:
                hidden, logits = file["output/hidden"][:], file["output/logits_all"][:]
                tokens = list(zip(file["input/request_id"][:], file["input/positions"][:], file["input/input_ids"][:]))
                for row, (request, position, token) in enumerate(tokens):
                    ids, wanted_hidden, wanted_logits = requests[request]
                    where = f"{path}: request {request}, position {position}"
                    self.assertEqual(token, ids[position], where)
                    self.assertLess(row_error(hidden[row], wanted_hidden[position]), FP32_BOUND, where)
                    self.assertLess(row_error(logits[row], wanted_logits[position]), FP32_BOUND, where)
                    if position > 0:
                        self.assertGreater(row_error(hidden[row], wanted_hidden[position - 1]), 100 * FP32_BOUND, where)
                for row, (request, position) in enumerate(zip(file["input/requests"][:], file["input/request_position"][:])):
                    self.assertEqual(position, len(requests[request][0]) - 1)
                    self.assertLess(row_error(file["output/logits"][row], requests[request][2][position]), FP32_BOUND)
                num_tokens += len(tokens)
        return num_tokens

    def test_whole_runs_equal_transformers(self):
        for name, grids in FIXTURES.items():
            for ranks in grids:
                run, requests = self.run_fixture(name, ranks)
                policies = sorted(path for path in run.iterdir() if path.is_dir())
                self.assertEqual(len(policies), 5)
                for folder in policies:
                    with self.subTest(fixture=name, ranks=ranks, policy=folder.name):
                        self.assertEqual(self.check_policy(folder, requests), sum(len(ids) for ids, _, _ in requests))


if __name__ == "__main__":
    unittest.main()
