#!/usr/bin/env python3
"""How close right runs come to the bounds of `dovetail verify`, and which planted faults stay below them, over random models.

    tests/row_bounds.py [--models 50] [--first 0] [--faults 4] [--architecture qwen3_moe] [--dtype bfloat16] [--device cpu] [--ranks 2]
                        [--jobs 1] [--within_s S] [--corners] [--bin build/bin/dovetail]

Each model (2 to 61 layers, hidden size 64 to 2048, top 1 to 8, of those that --parameters allows) runs whole and cut, over two exchanges and on another grid, all with the experts of the
baseline; then the baseline runs again with experts that were changed in its recorded routing. Errors are computed here once more, in float64, and must
be those that verify prints. Prints a line a model and a table; exit code 1: a right run uses more than two thirds of a bound, or a fault passes whose
worst row is more than 1.5 times as wrong as the worst row of all right runs. Not part of the tests: it takes minutes. Needs h5py."""
import argparse
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

MARGIN = 1.5
CORNERS = ((61, 2048), (2, 2048), (61, 64), (2, 64))  # layers, hidden size
FAULTS = ("half_of_the_tokens_one_layer", "last_expert_all_layers", "one_token_all_experts", "one_token_one_expert", "swapped_tokens")


def random_model(architecture, generator, most_parameters, corner=(None, None), published_heads=False):
    """A config.json; the size keeps a run within seconds. `corner`: number of layers and hidden size, where they are not drawn. `published_heads`: latent
    attention has the sizes that the GPU's kernels ask for."""
    while True:
        layers = corner[0] or round(2 * (61 / 2) ** generator.random())
        hidden = corner[1] or 64 * round(32 ** generator.random())
        experts = generator.choice([10, 16, 32, 64] if architecture == "qwen3_moe" else [16, 32, 64])
        intermediate = 32 * round(24 ** generator.random())
        attention = qwen3_attention(generator) if architecture == "qwen3_moe" else latent_attention(generator, published_heads)
        size = layers * (experts * 3 * hidden * intermediate + hidden * attention.pop("width"))
        if size <= most_parameters and attention["num_attention_heads"] * attention.get("head_dim", 64) <= 4096:
            config = {"model_type": architecture, "vocab_size": 512, "hidden_size": hidden, "num_hidden_layers": layers, **attention,
                      "num_experts_per_tok": generator.choice([1, 2, 4, 8]), "moe_intermediate_size": intermediate, "intermediate_size": 4 * intermediate,
                      "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6, "rope_scaling": None, "max_position_embeddings": 4096,
                      "tie_word_embeddings": False}
            return {**config, **(qwen3_experts(generator, experts) if architecture == "qwen3_moe" else grouped_experts(architecture, generator, experts, layers))}


def qwen3_attention(generator):
    head_dim = generator.choice([16, 32, 64, 128, 256])
    kv_heads = generator.choice([1, 2, 4])
    heads = kv_heads * generator.choice([1, 2, 4, 8])
    return {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim, "rope_theta": 1e6,
            "width": 2 * head_dim * (heads + kv_heads)}


def qwen3_experts(generator, experts):
    return {"num_experts": experts, "norm_topk_prob": generator.random() < 0.8, "decoder_sparse_step": 1, "mlp_only_layers": []}


def latent_attention(generator, published):
    heads, latent = generator.choice([2, 4, 8]), generator.choice([32, 64, 128])
    scale = 1
    if published:
        latent, scale = 512, 4
    return {"num_attention_heads": heads, "num_key_value_heads": heads, "q_lora_rank": generator.choice([None, 48]), "kv_lora_rank": latent,
            "qk_nope_head_dim": 32 * scale, "qk_rope_head_dim": 16 * scale, "v_head_dim": 32 * scale, "rope_theta": 1e4, "width": 2 * latent + 80 * scale * heads}


def grouped_experts(architecture, generator, experts, layers):
    """Experts whose weights are multiplied, which amplifies the roundings of the layers before. All groups may be chosen, so that any faults can be planted."""
    groups = generator.choice([1, 2, 4])
    config = {"n_routed_experts": experts, "n_shared_experts": generator.choice([1, 2]), "first_k_dense_replace": generator.randint(0, min(2, layers - 1)),
              "moe_layer_freq": 1, "n_group": groups, "topk_group": groups, "routed_scaling_factor": generator.choice([1.0, 2.5, 4.0])}
    if architecture == "deepseek_v3":
        return {**config, "norm_topk_prob": generator.random() < 0.8, "scoring_func": "sigmoid", "topk_method": "noaux_tc"}
    return {**config, "norm_topk_prob": False, "scoring_func": "softmax", "topk_method": "group_limited_greedy" if groups > 1 else "greedy",
            "routed_scaling_factor": generator.choice([1.0, 4.0, 16.0])}


class Study:
    """The runs of one model, in a folder of its own."""

    def __init__(self, options, index):
        self.options = options
        self.index = index
        self.generator = random.Random(f"{options.seed} {index}")
        corner = CORNERS[index] if options.corners and index < len(CORNERS) else (None, None)
        self.model = random_model(options.architecture, self.generator, options.parameters, corner,
                                  published_heads=options.device == "cuda" and options.dtype == "bfloat16")
        self.lengths = [self.generator.randint(5, 90) for _ in range(self.generator.randint(2, 5))]
        self.routing = [0.0, 0.0]
        self.folder = tempfile.mkdtemp(prefix="dovetail-row-bounds-")
        with open(os.path.join(self.folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(self.model, file)

    def run(self, name, policies, routing, ranks, verify=""):
        """Runs policies; returns the folder."""
        lengths = self.lengths * (self.options.ranks // ranks)
        path = os.path.join(self.folder, name + ".yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"""experiment: row_bounds
model: {{architecture: {self.options.architecture}, config: {self.folder}/config.json, weights: {{seed: {self.index}}}}}
parallel: {{expert_parallel: {ranks}}}
workload: {{phase: prefill, requests: {{lengths: {lengths}}}, seed: {self.index}, routing: {routing}}}
execution: {{device: {self.options.device}, dtype: {self.options.dtype}, warmup: 0, iterations: 1, timeout_s: 300}}
policies: {policies}
{verify}
record: {{outputs: [hidden, logits, layers, routing], timing: steps}}
""")
        out = os.path.join(self.folder, name)
        command = ["mpirun", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), self.options.bin, "run", path, "--out", out]
        environment = dict(os.environ, OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode not in (0, 4):
            raise RuntimeError(f"{path}: exit code {done.returncode}: {(done.stderr + done.stdout)[:600]}")
        return out

    def errors(self, baseline, policy):
        """(worst share of a bound, worst row error) of verify's tensors, which must be those computed here. What routing uses of its bounds goes
        into self.routing: logits, and choices that differ."""
        command = [self.options.bin, "verify", baseline, policy, "--format", "json"]
        report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
        own, other = read_rows(policy), read_rows(baseline)
        if report.get("routing"):
            self.routing = [max(pair) for pair in zip(self.routing, (report["routing"]["logits_share"], report["routing"]["max_gap_share"]))]
        share = worst = 0.0
        for tensor in report["tensors"]:
            row, element = float(tensor["error"]), float(tensor["element_error"])
            share = max(share, row / tensor["max_error"], element / tensor["max_element_error"])
            worst = max(worst, row)
            if tensor["name"] in own:
                wanted = row_errors(own[tensor["name"]], other[tensor["name"]])
                if not np.allclose((row, element), wanted, rtol=1e-9, atol=0):
                    raise RuntimeError(f"{policy}: verify says {row}, {element} of {tensor['name']}, these files say {wanted}")
        return share, worst

    def plant(self, source, kind):
        """A copy of a run with other experts in its recorded routing."""
        target = os.path.join(self.folder, "planted")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        experts, k = self.model.get("num_experts") or self.model["n_routed_experts"], self.model["num_experts_per_tok"]
        layer = self.generator.randrange(self.model.get("first_k_dense_replace", 0), self.model["num_hidden_layers"])
        draw = np.random.default_rng(self.generator.randrange(1 << 30))
        for rank, name in enumerate(sorted(name for name in os.listdir(target) if name.startswith("rank-"))):
            with h5py.File(os.path.join(target, name), "r+") as file:
                ids = file["route/expert_ids"][:]
                tokens = ids.shape[1]

                def replace(at_layer, token, places):
                    free = [expert for expert in range(experts) if expert not in ids[at_layer, token]]
                    new = draw.permutation(free)[:len(places)]
                    ids[at_layer, token, places[:len(new)]] = new

                if kind == "half_of_the_tokens_one_layer":
                    for token in range(tokens // 2, tokens):
                        replace(layer, token, list(range(k)))
                elif kind == "last_expert_all_layers":
                    for at_layer in range(ids.shape[0]):
                        for token in range(tokens // 2, tokens):
                            replace(at_layer, token, [k - 1])
                elif rank == 0 and kind == "swapped_tokens":
                    one, two = draw.permutation(tokens)[:2]
                    ids[layer, [one, two]] = ids[layer, [two, one]]
                elif rank == 0:
                    replace(layer, int(draw.integers(tokens)), list(range(k)) if kind == "one_token_all_experts" else [int(draw.integers(k))])
                file["route/expert_ids"][:] = ids
        return target

    def without_routing(self, source):
        """A copy of a run whose outputs are compared whatever its experts are."""
        target = shutil.copytree(source, os.path.join(self.folder, "without_routing"))
        for name in os.listdir(target):
            if name.startswith("rank-"):
                with h5py.File(os.path.join(target, name), "r+") as file:
                    del file["route"]
        return target

    def measure(self):
        """{right: [(what, share, worst row)], faults: [...]}; removes the runs. None where the time was over before it began."""
        if time.monotonic() > self.options.end:
            shutil.rmtree(self.folder, ignore_errors=True)
            return None
        try:
            several = self.options.ranks > 1
            gather = ", {name: gather, schedule: sequential, exchange: gather}" if several else ""
            run = self.run("all", "[{name: whole, schedule: sequential}, {name: dual, schedule: dual_batch, ubatches: 2}, "
                           "{name: three, schedule: dual_batch, ubatches: 3, split: request}" + gather + "]", "natural", self.options.ranks,
                           "verify: {baseline: whole, mode: tolerance, routing: replay}")
            whole = os.path.join(run, "whole")
            found = {"right": [], "faults": [], "routing": self.routing}
            for name in ["dual", "three"] + (["gather"] if several else []):
                found["right"].append((name, *self.errors(whole, os.path.join(run, name))))
            if several:
                alone = self.run("one_rank", "[{name: whole, schedule: sequential}]", "{replay: " + whole + "}", 1)
                found["right"].append(("one_rank", *self.errors(whole, os.path.join(alone, "whole"))))
            found["routing"] = self.routing
            reference = self.without_routing(whole)
            for number in range(self.options.faults):
                if time.monotonic() > self.options.end:
                    break
                kind = FAULTS[(self.index + number) % len(FAULTS)]
                planted = self.plant(whole, kind)
                wrong = self.run("fault", "[{name: whole, schedule: sequential}]", "{replay: " + planted + "}", self.options.ranks)
                found["faults"].append((kind, *self.errors(reference, os.path.join(wrong, "whole"))))
                shutil.rmtree(wrong)
            return found
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def describe(model):
    text = f"{model['num_hidden_layers']} layers, hidden {model['hidden_size']}, top {model['num_experts_per_tok']}"
    if "routed_scaling_factor" in model:
        text += f", weights {'normalised, ' if model['norm_topk_prob'] else ''}times {model['routed_scaling_factor']:g}"
    return text


def read_rows(folder):
    """The outputs with a row a token, of all ranks, in the order of (request, position)."""
    keys, rows = [], {}
    for name in sorted(name for name in os.listdir(folder) if name.startswith("rank-")):
        with h5py.File(os.path.join(folder, name)) as file:
            keys += list(zip(file["input/request_id"][:].tolist(), file["input/positions"][:].tolist()))
            for output in file["output"]:
                if output != "logits":
                    rows.setdefault(output, []).append(file["output"][output][:].astype(np.float64))
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return {name: np.concatenate(parts)[order] for name, parts in rows.items()}


def row_errors(a, b):
    """The largest row error and the largest element error, as results/README.md defines them."""
    difference, norm = np.abs(a - b), np.sqrt((b * b).sum(1))
    scale = np.maximum(np.abs(b), norm[:, None] / math.sqrt(b.shape[1]))
    return (np.sqrt((difference * difference).sum(1)) / norm).max(), (difference / scale).max()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="leave out the models before this one")
    parser.add_argument("--faults", type=int, default=4, help="of each model")
    parser.add_argument("--architecture", default="qwen3_moe", choices=["qwen3_moe", "deepseek_v2", "deepseek_v3"])
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--within_s", type=float, default=math.inf, help="begin no model and no fault later")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", type=float, default=3e6, help="the most that a model has")
    parser.add_argument("--corners", action="store_true", help="the first four models are the deepest and shallowest, widest and narrowest")
    parser.add_argument("--bin", default="build/bin/dovetail")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    options.end = time.monotonic() + options.within_s
    right, faults, routing = [], [], []
    with ThreadPoolExecutor(options.jobs) as pool:
        studies = [Study(options, index) for index in range(options.first, options.models)]
        for study, found in zip(studies, pool.map(Study.measure, studies)):
            if found is None:
                continue
            model = study.model
            print(f"model {study.index}: {describe(study.model)}: right runs use " + ", ".join(f"{100 * share:.0f} %" for _, share, _ in found["right"])
                  + " of a bound; faults " + ", ".join(f"{share:.3f}" for _, share, _ in found["faults"]) + " bounds", flush=True)
            right += found["right"]
            routing.append(found["routing"])
            faults += [(*fault, max(worst for _, _, worst in found["right"])) for fault in found["faults"]]
    most = max(share for _, share, _ in right)
    used = sorted(share for _, share, _ in right if share > 0)
    passed = sorted((fault for fault in faults if fault[1] <= 1), key=lambda fault: fault[1])
    missed = [fault for fault in passed if fault[1] > MARGIN * most]
    print(f"{options.dtype} on {options.device}, {options.ranks} ranks, {len(routing)} models: {len(right)} right runs, {len(right) - len(used)} equal to the bit, "
          f"the others use {100 * np.median(used) if used else 0:.0f} % of a bound (median), {100 * most:.1f} % at most; "
          f"{len(faults)} planted faults, {len(faults) - len(passed)} caught")
    logits, choices = (max(column) for column in zip(*routing))
    print(f"  routing of right runs: logits use {100 * logits:.0f} % of their bound at most, choices that differ {100 * choices:.0f} %")
    for kind, share, worst, of_right in passed:
        print(f"  passes: {kind}, {share:.3f} of a bound, worst row {worst:.2e} (right runs of this model: {of_right:.2e})")
    if max(most, logits, choices) > 1 / MARGIN or missed:
        sys.exit(f"FAILED: right runs use {max(most, logits, choices):.2f} of a bound, {len(missed)} faults above {MARGIN} times that pass")


if __name__ == "__main__":
    main()
