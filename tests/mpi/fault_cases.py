"""The data faults that tests and tests/fault_table.py plant: each in a policy of its own, all in one run, beside a policy without one."""
import json

# Requests of each rank: 92 tokens, so that the second ubatch begins at token 46, inside of the second request.
LENGTHS = [37, 25, 30]
TOKEN = 5  # of the second ubatch: position 14 of the second request
CACHED_TOKEN = 40  # of the first ubatch: position 3 of that request, which the second ubatch reads
RIGHT = ("right", "again")  # policies without a fault, which are equal to the bit
WARMUP, ITERATIONS = 1, 2
LAST = WARMUP + ITERATIONS - 1

MIDDLE, EARLY = 2, 2  # layers of faults: of the tiny model; of 24, where one choice of one token is more than bfloat16 rounds
TINY = "models/configs/qwen3-moe-tiny.json"  # 4 layers, with shared experts
DEEP = {"model_type": "qwen3_moe", "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 24, "num_attention_heads": 4, "num_key_value_heads": 2,
        "head_dim": 64, "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 64, "intermediate_size": 256, "n_shared_experts": 1,
        "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [], "hidden_act": "silu", "attention_bias": False, "rms_norm_eps": 1e-6,
        "rope_theta": 1e6, "rope_scaling": None, "max_position_embeddings": 4096, "tie_word_embeddings": False}


def cases(layer):
    """{name: keys of `fault`} for faults of results, in a layer of the middle."""
    at = {"layer": layer, "token": TOKEN}
    return {
        "flipped_attention": {"kind": "flipped_element", "phase": "attention", **at},
        "flipped_combine": {"kind": "flipped_element", "phase": "combine", **at},
        "flipped_shared": {"kind": "flipped_element", "phase": "shared_experts", **at},
        "flipped_output": {"kind": "flipped_element", "phase": "output", "layer": -1, "token": TOKEN},
        "swapped_tokens": {"kind": "swapped_tokens", "phase": "combine", **at},
        "wrong_first_chosen": {"kind": "wrong_expert", "phase": "route", "choice": 0, **at},
        "wrong_last_chosen": {"kind": "wrong_expert", "phase": "route", "choice": -1, **at},
        "wrong_first_sent": {"kind": "wrong_expert", "phase": "dispatch", "choice": 0, **at},
        "wrong_last_sent": {"kind": "wrong_expert", "phase": "dispatch", "choice": -1, **at},
        "dropped_first": {"kind": "dropped_weight", "phase": "route", "choice": 0, **at},
        "dropped_last": {"kind": "dropped_weight", "phase": "route", "choice": -1, **at},
        "stale_kv": {"kind": "stale_kv", "phase": "attention", "layer": layer, "ubatch": 0, "token": CACHED_TOKEN},
        "wrong_position": {"kind": "wrong_position", "phase": "embed", "layer": -1, "token": TOKEN},
        "stale_dispatch": {"kind": "stale_buffer", "phase": "dispatch", "layer": layer},
        "stale_combine": {"kind": "stale_buffer", "phase": "combine", "layer": layer},
        "reused_dispatch": {"kind": "early_reuse", "phase": "dispatch", "layer": layer, "ubatch": 0},
        "reused_combine": {"kind": "early_reuse", "phase": "combine", "layer": layer, "ubatch": 0},
    }


def waits(layer):
    """Of skipped_wait. On the CPU the exchange's own order of calls ends such a run."""
    return {"no_wait_experts": {"kind": "skipped_wait", "phase": "experts", "layer": layer},
            "no_wait_attention": {"kind": "skipped_wait", "phase": "attention", "layer": layer}}


def kinds(planted):
    return sorted({fault["kind"] for fault in planted.values()})


def allow(planted):
    """The arguments of `dovetail run`."""
    return [word for kind in kinds(planted) for word in ("--allow-fault", kind)]


def experiment(folder, planted, device="cpu", dtype="float32", policy="", deep=None, **keys):
    """Text of a run of `planted`; `policy`: further keys of each policy; `keys` of each fault. Deep models are of 24 layers."""
    model = TINY
    if deep if deep is not None else dtype != "float32":
        model = folder / "deep.json"
        model.write_text(json.dumps(DEEP))
    faults = []
    for name, fault in planted.items():
        fault = {"rank": 1, "ubatch": 1, "iteration": LAST, **fault, **keys, "policy": name}
        faults.append("  - {" + ", ".join(f"{key}: {value}" for key, value in fault.items()) + "}\n")
    names = "".join(f"  - {{name: {name}, schedule: dual_batch, ubatches: 2{policy}}}\n" for name in [*RIGHT, *planted])
    return f"""experiment: faults
model: {{architecture: qwen3_moe, config: {model}, weights: {{seed: 42}}}}
parallel: {{expert_parallel: 2}}
workload: {{phase: prefill, requests: {{lengths: {LENGTHS}}}, seed: 9}}
execution: {{device: {device}, dtype: {dtype}, warmup: {WARMUP}, iterations: {ITERATIONS}, hand_off: threads, timeout_s: 20}}
policies:
  - {{name: sequential}}
{names}verify: {{baseline: sequential, mode: tolerance, routing: replay}}
record: {{outputs: [hidden, logits, layers, routing], timing: steps}}
fault:
{"".join(faults)}"""


def cut_experiment(device="cpu", dtype="float32", policy="", timeout_s=3):
    """Text of a run whose experts are in two groups, for faults that end it; `policy`: further keys of the policy."""
    return f"""experiment: groups
model: {{architecture: qwen3_moe, config: {TINY}, weights: {{seed: 42}}}}
parallel: {{expert_parallel: 2}}
workload: {{phase: prefill, requests: {{lengths: {LENGTHS}}}, seed: 9}}
execution: {{device: {device}, dtype: {dtype}, warmup: {WARMUP}, iterations: {ITERATIONS}, timeout_s: {timeout_s}}}
policies: [{{name: cut, schedule: expert_groups, ubatches: 2, groups: 2{policy}}}]
verify: {{mode: none}}
record: {{outputs: [hidden], timing: steps}}
"""


def endings(kind):
    """(keys of `fault`, where it is) of faults that end such a run, in each phase that is cut."""
    for phase, group in (("dispatch", 0), ("dispatch", 1), ("experts", 1), ("combine", 0), ("combine", 1)):
        fault = f"{{kind: {kind}, rank: 1, ubatch: 1, layer: {MIDDLE}, phase: {phase}, group: {group}, iteration: {LAST}}}"
        yield fault, f"ubatch 1, layer {MIDDLE}, phase {phase}, group {group}"


def expected_layer(fault):
    """The first recorded tensor that the fault changes: `layer_<n>`, or hidden."""
    if fault["phase"] == "embed":
        return "layer_0"
    return "hidden" if fault["phase"] == "output" else f"layer_{fault['layer']}"


def verification(run, policy):
    return json.loads((run / policy / "summary.json").read_text())["verification"]


def share(tensor):
    """Error over bound, the larger of rows' and elements'; infinite where a result is not finite."""
    if tensor["problem"].startswith("not finite"):
        return float("inf")
    return max(float(tensor["error"]) / tensor["max_error"], float(tensor["element_error"]) / tensor["max_element_error"])


def shares(report):
    """{tensor: share} of those that have a bound."""
    return {tensor["name"]: share(tensor) for tensor in report["tensors"] if tensor["max_error"]}


def first_wrong(report):
    """The first tensor, by depth, that is beyond its bound; None = none is."""
    def depth(name):
        return int(name[6:]) if name.startswith("layer_") else 1000 + (name == "logits")

    wrong = [tensor for tensor in report["tensors"] if not tensor["passed"]]
    return min(wrong, key=lambda tensor: depth(tensor["name"]), default=None)
