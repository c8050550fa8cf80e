"""Runs the requests of the fixtures, as prefills, chunks or decode steps, and compares every row with what transformers computed.

The phase "steps" decodes the tokens that transformers decoded one by one behind each prompt, in as many steps of one run; in "decode" all but one token of
a request are its context.
"""
import json
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from cli import FP32_BOUND, TOP, CliTest

EXPERIMENT = """
experiment: anchor
model: {architecture: %(architecture)s, config: %(folder)s/config.json, weights: {checkpoint: %(folder)s}}
parallel: {expert_parallel: %(ranks)d}
workload: {phase: %(phase)s, requests: {file: %(trace)s}, steps: %(steps)d}
execution: {device: %(device)s, dtype: %(dtype)s, warmup: 1, iterations: 2, timeout_s: 60}
policies:
  - {name: sequential}
  - {name: dual_batch, ubatches: 2}
  - {name: three_inline, schedule: dual_batch, ubatches: 3, split: request, hand_off: inline, page_size: %(page_size)d}
  - {name: gather, schedule: dual_batch, ubatches: 2, exchange: gather}
  - {name: staged, stages: prefill, ubatches: 2}
%(policies)srecord: {outputs: [hidden, logits, logits_all], timing: steps}
"""
# For CPU ranks: on GPUs one exchange alone knows groups.
MORE_POLICIES = """  - {name: shared_expert}
  - {name: expert_groups, groups: %(groups)d}
"""
# Fixtures whose inputs are token ids, with the numbers of ranks that divide their experts.
FIXTURES = {"qwen3-moe-tiny": (1, 2), "odd-heads-stacked": (1, 2, 3), "tied-dense-sharded": (1, 2), "all-experts-half": (1, 3), "yarn-nested": (1, 2),
            "mixtral-linear": (1, 3), "mixtral-yarn-stacked": (1, 2, 3), "qwen2-moe-llama3": (1, 2, 3), "qwen2-moe-odd": (1, 3),
            "deepseek-v2-groups": (1, 2), "deepseek-v2-lite": (1, 3), "deepseek-v3-groups": (1, 2, 3), "kimi-k2-tiny": (1, 2), "glm4-moe-norms": (1, 2),
            "glm4-moe-biases": (1, 2)}
# One of each architecture.
ONE_OF_EACH = {name: FIXTURES[name] for name in ("qwen3-moe-tiny", "mixtral-linear", "qwen2-moe-llama3", "deepseek-v2-groups", "deepseek-v3-groups", "glm4-moe-norms")}
# Of a row's norm. transformers computed in float32: in bfloat16 this run alone rounds, and at a near tie its router chooses otherwise, which few rows may.
BOUND = {"float32": FP32_BOUND, "bfloat16": 2e-2}
ROUNDS_MORE = ("deepseek-", "kimi-", "glm4-")  # their experts' weights are multiplied, and on GPUs their routers round too, where transformers' do not: up to 2.4e-2
BOUND_OF_MORE = {"float32": FP32_BOUND, "bfloat16": 3e-2}
MOST_OTHER_ROWS = {"float32": 0.0, "bfloat16": 0.1}


# `first`: the position from which on tokens are computed; logits [position], those of the context before `first` may be anything.
Request = namedtuple("Request", "ids first hidden logits")


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


def context_length(phase, length, index):
    """Tokens of a request that fill its context before the step; in a mixed one every third request is a prefill, a chunk, a decode step."""
    contexts = {"prefill": 0, "chunk": length // 3, "decode": length - 1}
    return list(contexts.values())[index % 3] if phase == "mixed" else contexts[phase]


def requests_in_one_step(folder, phase):
    expected = read_safetensors(folder / "expected.safetensors")
    ends = np.cumsum(expected["lengths"])
    parts = [[expected[key][end - length:end] for key in ("input_ids", "hidden", "logits")] for end, length in zip(ends, expected["lengths"])]
    return [Request(ids, context_length(phase, len(ids), index), hidden, logits) for index, (ids, hidden, logits) in enumerate(parts)]


def requests_in_many_steps(folder):
    """Behind their prompts; transformers' logits are of the prompt's last token and of each step's."""
    decoded = read_safetensors(folder / "decode.safetensors")
    steps = len(decoded["logits"]) // len(decoded["lengths"]) - 1
    requests, end = [], 0
    for index, length in enumerate(decoded["lengths"]):
        begin, end = end, end + length + steps
        last = decoded["logits"][index * (steps + 1):(index + 1) * (steps + 1)]
        logits = np.concatenate([np.full((length - 1, last.shape[1]), np.nan, np.float32), last])
        requests.append(Request(decoded["input_ids"][begin:end], int(length), decoded["hidden"][begin:end], logits))
    return requests, steps


class AnchorTest(CliTest):
    DEVICE = "cpu"
    POLICIES = ""  # further ones, which may hold fields
    PAGE_SIZE = 4  # of one policy
    MOST_RANKS = 3
    JOBS = 1  # runs at a time

    def run_fixture(self, name, ranks, phase, dtype, *arguments):
        """Runs the requests of a fixture; returns the folder and transformers' requests."""
        folder = TOP / "tests" / "fixtures" / name
        requests, steps = requests_in_many_steps(folder) if phase == "steps" else (requests_in_one_step(folder, phase), 1)
        lines = []
        for index, request in enumerate(requests):
            context = {"context_ids": request.ids[:request.first].tolist()} if request.first else {}
            lines.append(json.dumps({"input_ids": request.ids[request.first:].tolist(), "rank": index % ranks, **context}))
        run_name = f"{name}-{ranks}-{phase}-{dtype}"
        trace = self.write("\n".join(lines) + "\n", f"{run_name}.jsonl")
        config = json.loads((folder / "config.json").read_text())
        experts = next(config[key] for key in ("num_experts", "num_local_experts", "n_routed_experts") if key in config)
        fields = {"folder": folder, "architecture": config["model_type"], "ranks": ranks, "trace": trace, "device": self.DEVICE, "dtype": dtype,
                  "policies": self.POLICIES % {"groups": min(2, experts // ranks)} if "%" in self.POLICIES else self.POLICIES,
                  "page_size": self.PAGE_SIZE, "steps": steps, "phase": {"decode": "decode", "steps": "decode", "mixed": "mixed"}.get(phase, "prefill")}
        run, _ = self.run_experiment(ranks, self.write(EXPERIMENT % fields, f"{run_name}.yaml"), run_name, *arguments)
        return run, requests

    def check_policy(self, name, folder, requests, phase, dtype):
        """Each token's rows are those of transformers, and not those of its neighbour. Returns the errors of all rows."""
        errors, computed, ends = [], [], []
        for path in sorted(folder.glob("rank-*.h5")):
            with h5py.File(path) as file:
                hidden, logits = file["output/hidden"][:], file["output/logits_all"][:]
                for row, (request, position, token) in enumerate(zip(file["input/request_id"][:], file["input/positions"][:], file["input/input_ids"][:])):
                    wanted = requests[request]
                    self.assertEqual(token, wanted.ids[position], f"{path}: request {request}, position {position}")
                    errors.append(max(row_error(hidden[row], wanted.hidden[position]), row_error(logits[row], wanted.logits[position])))
                    if position > 0:
                        self.assertGreater(row_error(hidden[row], wanted.hidden[position - 1]), (100 if dtype == "float32" else 3) * BOUND[dtype])
                    computed.append((request, position))
                for row, (request, position) in enumerate(zip(file["input/requests"][:], file["input/request_position"][:])):
                    errors.append(row_error(file["output/logits"][row], requests[request].logits[position]))
                    ends.append((request, position))
        tokens = [(index, position) for index, request in enumerate(requests) for position in range(request.first, len(request.ids))]
        self.assertEqual(sorted(computed), tokens)
        self.assertEqual(sorted(ends), tokens if phase == "steps" else [(index, len(request.ids) - 1) for index, request in enumerate(requests)])
        bound = (BOUND_OF_MORE if name.startswith(ROUNDS_MORE) else BOUND)[dtype]
        beyond = sum(not error < bound for error in errors)
        self.assertLessEqual(beyond, MOST_OTHER_ROWS[dtype] * len(errors), f"{folder}: of {len(errors)} rows, worst {max(errors):.3g}")
        return errors

    def check_that_common_faults_are_noticed(self):
        """One token of the last iteration has another rotary position, in every policy alike, for every architecture."""
        fault = "{kind: wrong_position, rank: 0, layer: -1, phase: embed, token: 5, iteration: 2}"
        arguments = ("--set", f"fault={fault}", "--allow-fault", "wrong_position", "--policy", "sequential", "--policy", "gather")
        for name in ONE_OF_EACH:
            run, requests = self.run_fixture(name, 1, "prefill", "float32", *arguments)
            for policy in ("sequential", "gather"):
                with self.subTest(fixture=name, policy=policy), self.assertRaises(AssertionError):
                    self.check_policy(name, run / policy, requests, "prefill", "float32")

    def check_runs(self, phase, dtype="float32", fixtures=FIXTURES, first_grid=0):
        """`first_grid`: -1 takes only the largest grid of each fixture."""
        cases = [(name, ranks) for name in fixtures for ranks in [grid for grid in fixtures[name] if grid <= self.MOST_RANKS][first_grid:]]
        with ThreadPoolExecutor(self.JOBS) as jobs:
            runs = jobs.map(lambda case: self.run_fixture(*case, phase, dtype), cases)
            for (name, ranks), (run, requests) in zip(cases, runs):
                policies = sorted(path for path in run.iterdir() if path.is_dir())
                self.assertGreaterEqual(len(policies), 5)
                for folder in policies:
                    with self.subTest(fixture=name, ranks=ranks, policy=folder.name):
                        self.check_policy(name, folder, requests, phase, dtype)
