#!/usr/bin/env python3
"""Figures of runs on GPUs as short tables: launch/gpu_figures.py [--bin DOVETAIL] RUN_DIR...

Reads `dovetail compare` and summary.json of each run. Times are the slowest rank's. Columns:
  host       the host's time to enqueue a step over the step's time (median over timed steps and ranks)
  hidden     share of the exchange's moving time beside which a rank computed
  split tax  compute of the parts over compute of the whole; contention: compute beside the exchange over the same compute alone
  peak       most memory that tensors held on a GPU; owned: weights, KV cache and exchange buffers of a rank
  captures   graphs made; eager: steps that ran eagerly; of the whole policy, warm-up and profiled steps included
"""
import argparse
import json
import subprocess
from pathlib import Path

HEADER = ["policy", "p50 ms", "p95 ms", "speed-up", "host", "hidden", "moving ms", "waiting ms", "split tax", "contention", "peak GiB", "peak/owned", "captures", "eager", "verdict"]


def ask(binary, *arguments):
    process = subprocess.run([binary, *map(str, arguments), "--format", "json"], capture_output=True, text=True)
    if process.returncode != 0 and not process.stdout:  # compare also prints what it could read when not all could be
        raise SystemExit(f"dovetail {' '.join(map(str, arguments))}: {process.stderr.strip()}")
    return json.loads(process.stdout)


def number(value, form="{:.2f}"):
    return "-" if value is None else form.format(value)


def scaled(value, factor):
    return None if value is None else value * factor


def read_run(binary, run):
    """The policies of a run: {name, world_size, p50 (ms), row}."""
    policies = []
    for entry in ask(binary, "compare", run)["policies"]:
        summary_path = Path(entry["folder"]) / "summary.json"
        summary = json.loads(summary_path.read_text()) if summary_path.is_file() else {}
        step, metrics = entry["step_ns"] or {}, entry["metrics"] or {}
        verification = summary.get("verification") or {}
        memory, graphs = entry.get("memory") or {}, entry.get("graphs") or {}
        peak, owned = memory.get("peak_allocated_bytes"), memory.get("owned_bytes")
        eager = sum(graphs["eager_reasons"].values()) if "eager_reasons" in graphs else None
        p50 = scaled(step.get("p50"), 1e-6)
        row = [entry["name"], number(p50, "{:.3f}"), number(scaled(step.get("p95"), 1e-6), "{:.3f}"), number(entry["speed_up"]),
               number(scaled(entry.get("host_share"), 100), "{:.0f} %"), number(scaled(metrics.get("hidden_share"), 100), "{:.0f} %"),
               number(scaled(metrics.get("moving_ns"), 1e-6), "{:.3f}"), number(scaled(metrics.get("waiting_ns"), 1e-6), "{:.3f}"),
               number(metrics.get("split_tax_factor")), number(metrics.get("contention_factor")), number(scaled(peak, 2**-30), "{:.1f}"),
               number(peak / owned if peak and owned else None), number(graphs.get("captures"), "{}"), number(eager, "{}"),
               verification.get("verdict") or entry["problem"] or "baseline"]
        policies.append({"name": entry["name"], "world_size": entry["world_size"], "p50": p50, "row": row})
    return policies


def print_table(title, header, rows):
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    print(title)
    for row in [header, *rows]:
        print("  " + "  ".join(text.ljust(width) if column == 0 else text.rjust(width) for column, (text, width) in enumerate(zip(row, widths))).rstrip())


def print_scaling(experiment, runs):
    """Runs of one experiment on several numbers of ranks, with the work of a rank kept: time on the fewest over time on n."""
    times = {(policy["name"], policy["world_size"]): policy["p50"] for policies in runs for policy in policies}
    sizes = sorted({size for _, size in times})
    rows = []
    for name in dict.fromkeys(name for name, _ in times):
        row, first = [name], times.get((name, sizes[0]))
        for size in sizes:
            own = times.get((name, size))
            row += [number(own, "{:.3f}"), "-" if not own or not first else f"{100 * first / own:.0f} %"]
        rows.append(row)
    header = ["policy", *(text for size in sizes for text in (f"np{size} ms", "kept"))]
    print_table(f"weak scaling of {experiment}, kept: speed of {sizes[0]} rank(s) that is kept", header, rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="build-cuda/bin/dovetail")
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    by_experiment = {}
    for run in arguments.runs:
        if not (run / "experiment.yaml").exists():
            continue
        try:
            policies = read_run(arguments.bin, run)
        except SystemExit as problem:  # a run that failed leaves nothing to compare; the others count
            print(f"{run.name}: {problem}")
            continue
        print_table(f"{run.name}, {policies[0]['world_size']} rank(s)", HEADER, [policy["row"] for policy in policies])
        by_experiment.setdefault(run.name.rsplit("-np", 1)[0], []).append(policies)
    for experiment, runs in by_experiment.items():
        if len({policies[0]["world_size"] for policies in runs}) > 1:
            print_scaling(experiment, runs)


if __name__ == "__main__":
    main()
