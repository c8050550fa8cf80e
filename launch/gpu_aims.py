#!/usr/bin/env python3
"""What was aimed at on four GPUs, what was seen and whether that is met: launch/gpu_aims.py FOLDER

Reads what launch/check_gpus.sh leaves in FOLDER; an aim whose file is not there is not measured. The aims are of four H200s, with as many ranks.
  exchange-wide.json    dovetail bench exchange, rows of 7168, 256 experts, top 8, 1 to 8192 tokens a rank
  exchange-narrow.json  the same, rows of 2048, 128 experts
  attention.json        dovetail bench attention
  partition.json        dovetail bench partition
  compare-NAME.json     dovetail compare of the run NAME of experiments/NAME.yaml
  long.json             {"exchanges": number, "passed": true or false}
  sanitize.json         {"passed": true or false}
"""
import argparse
import json
import sys
from pathlib import Path

SWEEP = (1, 32, 128, 512, 2048, 8192)  # tokens of a rank
CALLS = ("prepare", "dispatch", "arrange", "reduce", "combine", "finish")
MOST_SLOWER = 1.05


class NotMeasured(Exception):
    pass


def read(folder):
    """The JSON files of a folder by name, without their ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))}


def of(data, name):
    if name not in data:
        raise NotMeasured
    return data[name]


def some(items):
    """All of them; there is one."""
    found = list(items)
    if not found:
        raise NotMeasured
    return found


def rows_of(data, file, exchange, tokens, mode=None, most_sms=None):
    """Of whole experts and balanced routing."""
    return some(row for row in of(data, file)["rows"] if row["exchange"] == exchange and row["tokens"] == tokens and row["groups"] == 1
                and row["routing"] == "balanced" and mode in (None, row["mode"]) and (most_sms is None or row["comm_sms"] <= most_sms))


def all_calls(row):
    return sum(row[f"{call}_us"] for call in CALLS)


def on_the_wire(rows):
    """The row whose dispatch and combine take least together."""
    return min(rows, key=lambda row: row["dispatch_us"] + row["combine_us"])


def policies_of(data, run):
    return {policy["name"]: policy for policy in of(data, f"compare-{run}")["policies"] if policy.get("step_ns")}


def step_ms(policies, *names):
    """The fastest of these that ran, and its name."""
    return min(some((policies[name]["step_ns"]["p50"] * 1e-6, name) for name in names if name in policies))


def at_most(value, bound, unit, note=""):
    return f"{value:.4g} {unit}{note}", value <= bound


def at_least(value, bound, unit, note=""):
    return f"{value:.4g} {unit}{note}", value >= bound


def wire(call, file, tokens, bound, mode=None, most_sms=None):
    def seen(data):
        row = on_the_wire(rows_of(data, file, "symmetric", tokens, mode, most_sms))
        return at_most(row[f"{call}_us"], bound, "us", f", {row['comm_sms']} SMs, {row['mode']}")
    return seen


def beside(call, bound):
    """A call on the compute lane, of the row whose wire is measured."""
    return wire(call, "exchange-wide", 4096, bound, most_sms=8)


def slower_than_others(data):
    """The worst of symmetric over padded or gather, all calls, in every size and mode."""
    ratios = []
    for tokens in SWEEP:
        for mode in ("eager", "graph"):
            own = min(map(all_calls, rows_of(data, "exchange-wide", "symmetric", tokens, mode)))
            for other in ("padded", "gather"):
                ratios.append((own / min(map(all_calls, rows_of(data, "exchange-wide", other, tokens, mode))), tokens, other, mode))
    worst, tokens, other, mode = max(ratios)
    return at_most(worst, MOST_SLOWER, "times", f" {other}, {tokens} tokens, {mode}")


def no_wrong_word(data):
    rows = some(row for name in ("exchange-wide", "exchange-narrow", "partition") if name in data for row in data[name]["rows"])
    wrong = sum(row["wrong_words"] for row in rows)
    return f"{wrong} in {len(rows)} rows", wrong == 0


def best_prefill(data):
    policies = policies_of(data, "gpu_prefill")
    value, name = step_ms(policies, *policies)
    return at_most(value, 22, "ms", f", {name}")


def decode(bound, *names):
    def seen(data):
        value, name = step_ms(policies_of(data, "gpu_decode"), *names)
        return at_most(value, bound, "ms", f", {name}")
    return seen


PLAIN_GRAPHS = ("plain_graph", "plain_graph_gather", "plain_graph_symmetric")


def groups_in_decode(data):
    policies = policies_of(data, "gpu_decode")
    groups, name = step_ms(policies, "groups_graph", "groups_4_graph")
    plain, _ = step_ms(policies, *PLAIN_GRAPHS)
    return at_most(groups / plain, 1.0, "times plain", f", {name}")


def best_wide(data):
    policies = policies_of(data, "gpu_wide_moe")
    plain, _ = step_ms(policies, "plain")
    best, name = step_ms(policies, *(policy for policy in policies if policy != "plain"))
    return policies[name], plain / best


def wide_speed_up(data):
    policy, speed_up = best_wide(data)
    return at_least(speed_up, 1.08, "times plain's speed", f", {policy['name']}")


def wide_hidden(data):
    policy, _ = best_wide(data)
    share = (policy.get("metrics") or {}).get("hidden_share")
    if share is None:
        raise NotMeasured
    return at_least(100 * share, 90, "%", f", {policy['name']}")


def medians_of(data, quantity, *words):
    return some(row["median"] for row in of(data, "attention") if row["quantity"] == quantity and all(word in row["variant"] for word in words)
                and "LibTorch" not in row["variant"])


def latent_bandwidth(data):
    copy = max(medians_of(data, "TB/s", "copy"))
    return at_least(100 * min(medians_of(data, "TB/s", "decode over latents")) / copy, 60, "% of a copy")


def prefill_attention(model):
    return lambda data: at_least(min(medians_of(data, "TFLOP/s", "prefill", f"({model})")), 400, "TFLOP/s")


def ran(run, least_policies):
    def seen(data):
        policies = policies_of(data, run)
        plain, _ = step_ms(policies, "plain")
        best, name = step_ms(policies, *policies)
        return f"{len(policies)} policies, plain {plain:.4g} ms, {name} {best:.4g} ms", len(policies) >= least_policies
    return seen


def many_exchanges(data):
    told = of(data, "long")
    return f"{told['exchanges']} exchanges, {'no wrong word' if told['passed'] else 'FAILED'}", told["passed"] and told["exchanges"] >= 100_000


def sanitizer(data):
    passed = of(data, "sanitize")["passed"]
    return ("clean" if passed else "FAILED"), passed


def contention(data):
    rows = of(data, "partition")["rows"]
    sms = {row["comm_sms"] for row in rows if row["compute_contention"] is not None and row["exchange_contention"] is not None}
    works = {row["compute"] for row in rows}
    return f"{len(works)} kinds of compute, {len(sms)} numbers of SMs", len(works) >= 2 and len(sms) >= 5


AIMS = [
    ("symmetric, 4096 tokens of 7168: dispatch with 8 SMs", "<= 480 us", wire("dispatch", "exchange-wide", 4096, 480, most_sms=8)),
    ("symmetric, 4096 tokens of 7168: combine with 8 SMs", "<= 480 us", wire("combine", "exchange-wide", 4096, 480, most_sms=8)),
    ("  arrange beside it", "<= 160 us", beside("arrange", 160)),
    ("  reduce beside it", "<= 200 us", beside("reduce", 200)),
    ("  finish beside it", "<= 80 us", beside("finish", 80)),
    ("symmetric, 128 tokens of 7168, graph: dispatch", "<= 26 us", wire("dispatch", "exchange-wide", 128, 26, "graph")),
    ("symmetric, 128 tokens of 7168, graph: combine", "<= 26 us", wire("combine", "exchange-wide", 128, 26, "graph")),
    ("symmetric, 128 tokens of 2048, graph: dispatch", "<= 16 us", wire("dispatch", "exchange-narrow", 128, 16, "graph")),
    ("symmetric, 128 tokens of 2048, graph: combine", "<= 16 us", wire("combine", "exchange-narrow", 128, 16, "graph")),
    ("symmetric over padded or gather, all calls, 1 to 8192 tokens", "<= 1.05 times", slower_than_others),
    ("wrong words of all benches", "0", no_wrong_word),
    ("random exchanges, uneven and idle ranks, one after the other", ">= 100000", many_exchanges),
    ("compute-sanitizer on small shapes", "clean", sanitizer),
    ("table of contention, soft and hard partitions", "2 x 5 cells", contention),
    ("gpu_prefill, best policy", "<= 22 ms", best_prefill),
    ("gpu_decode, plain as a graph", "<= 7.2 ms", decode(7.2, *PLAIN_GRAPHS)),
    ("gpu_decode, groups of experts as a graph", "<= 1 times plain", groups_in_decode),
    ("gpu_decode, plain, eager", "<= 9 ms", decode(9, "plain_eager", "plain_eager_ragged")),
    ("gpu_decode, two ubatches, eager", "<= 16 ms", decode(16, "dual_eager")),
    ("gpu_wide_moe, best policy over plain", ">= 1.08 times", wide_speed_up),
    ("gpu_wide_moe, exchange that it hides", ">= 90 %", wide_hidden),
    ("gpu_deepseek, prefill 4 x 4096", "all policies", ran("gpu_deepseek", 5)),
    ("gpu_deepseek, decode 128 at 4096", "all policies", ran("gpu_deepseek_decode", 5)),
    ("DeepSeek-V2-Lite, whole", "all policies", ran("gpu_deepseek_v2_lite", 5)),
    ("decode attention over latents, of the copy's bandwidth", ">= 60 %", latent_bandwidth),
    ("prefill attention, DeepSeek-V3", ">= 400 TFLOP/s", prefill_attention("DeepSeek-V3")),
    ("prefill attention, DeepSeek-V2-Lite", ">= 400 TFLOP/s", prefill_attention("DeepSeek-V2-Lite")),
]


def table(data):
    """(aim, wanted, seen, "yes", "no" or "-") of every aim."""
    rows = []
    for aim, wanted, look in AIMS:
        try:
            seen, met = look(data)
            rows.append((aim, wanted, seen, "yes" if met else "no"))
        except NotMeasured:
            rows.append((aim, wanted, "not measured", "-"))
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not folder.is_dir():
        print(f"{folder}: no folder", file=sys.stderr)
        return 2
    rows = [("aim", "wanted", "seen", "met"), *table(read(folder))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
