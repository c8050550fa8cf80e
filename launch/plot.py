#!/usr/bin/env python3
"""Pictures of a run or of a sweep: step times, hidden share of the exchange, and a timeline of one profiled step of every policy.

launch/plot.py RUN_OR_SWEEP_DIR [--out DIR] [--format svg|png] [--layers N]

Writes step_time, hidden_share and timeline into --out (default: RUN_OR_SWEEP_DIR/plots) and prints their paths. Exit code 2: bad usage or input.
"""
import argparse
import contextlib
import importlib
import json
import os
import re
import sys
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"  # has the packages of Debian, which another python3 in PATH does not see


class InputError(Exception):
    """Bad usage or input: one line for a person."""


def missing_modules_message():
    """Which modules this Python lacks, and how to get them."""
    missing = []
    for name in ("h5py", "matplotlib", "numpy"):
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    if sys.executable == SYSTEM_PYTHON:
        remedy = "apt-get install " + " ".join(f"python3-{name}" for name in missing) + " (Debian), or start plot.py with a Python that has them"
    else:
        remedy = f"{sys.executable} -m pip install " + " ".join(missing)
    return f"plot: {sys.executable} has no {', no '.join(missing)}; to go on: {remedy}"


try:
    import h5py
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Outline
except ImportError:
    if sys.executable != SYSTEM_PYTHON and os.access(SYSTEM_PYTHON, os.X_OK):
        os.execv(SYSTEM_PYTHON, [SYSTEM_PYTHON, *sys.argv])
    sys.exit((print(missing_modules_message(), file=sys.stderr), 2)[1])

NO_LINK = "none"
SHORT = {"embed": "emb", "attention": "att", "route": "rou", "dispatch": "dis", "experts": "exp", "shared_experts": "sha", "combine": "com",
         "mlp": "mlp", "output": "out"}
WAITING = {"facecolor": "none", "hatch": "/////"}  # of an exchange: for the last rank
COLOURS = ["#4477aa", "#ee7733", "#228833", "#aa3377", "#66ccee", "#ccbb44", "#cc3311", "#777777"]  # of ubatches and of series


def counted(count, noun):
    """The number with its noun: 1 rank, 3 ranks."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def text_of(value):
    return value.decode() if isinstance(value, bytes) else str(value)


@contextlib.contextmanager
def reading(path):
    """What fails within names the file. A pipe, which may never end, is refused."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file")
        yield
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: {error}") from error


def read_json(path):
    with reading(path):
        return json.loads(path.read_text())


@contextlib.contextmanager
def rank_file(path):
    with reading(path), h5py.File(path) as file:
        yield file


class Policy:
    """One policy folder: what its summary and its rank files say."""

    def __init__(self, folder):
        self.folder = folder
        self.summary = read_json(folder / "summary.json")
        self.name = self.summary["policy"]
        self.experiment = self.summary["experiment"]
        self.link = self.summary["link"]
        attributes = self.summary["attributes"]
        device = attributes["device"].split(" ", 1)[-1]  # a GPU's name behind its number
        self.setting = f"{counted(self.summary['world_size'], 'rank')}, expert parallel {self.summary['expert_parallel']}, {device}, {attributes['dtype']}"
        self.is_valid = self.summary["timings"] == "valid"
        self.files = sorted(folder.glob("rank-*.h5"))

    def step_ms(self):
        """Times of all finished steps, of the slowest rank."""
        times = []
        for path in self.files:
            with rank_file(path) as file:
                times.append(file["timing/step_ns"][:])
        times = np.stack(times).reshape(len(times), -1)
        return times[:, (times >= 0).all(axis=0)].max(axis=0) / 1e6

    def tokens(self):
        """Tokens of a step on the rank that has most."""
        most = 0
        for path in self.files:
            with rank_file(path) as file:
                most = max(most, file["input/input_ids"].shape[0] // file["timing/step_ns"].shape[1])
        return most

    def hidden_share(self):
        share = (self.summary["metrics"] or {}).get("hidden_share")
        return share if isinstance(share, (int, float)) else None

    def profiled_step(self):
        """The profiled step of median length: for each rank a list of (op, start, moving, end in ms); nothing without profiled steps. `moving`: from
        when the last rank of the group has come to an exchange; of other ops their start."""
        with rank_file(self.files[0]) as file:
            spans = file["timing/profiled_step_ns"][:, 0, :]
        ran = np.flatnonzero(spans[:, 1] >= 0)
        if len(ran) == 0:
            return None
        lengths = spans[ran, 1] - spans[ran, 0]
        step = int(ran[np.argsort(lengths, kind="stable")[len(ran) // 2]])
        ranks, last_start = [], {}
        for path in self.files:
            with rank_file(path) as file:
                group = int(file.attrs["dp_rank"])
                ops = file[f"schedule/{int(file['timing/profiled_schedule'][step])}"][:]
                times = file["timing/ops"][step] + int(file["timing"].attrs["clock_offset_ns"]) * (file["timing/ops"][step] >= 0)
            ranks.append([])
            for op, (start, end) in zip(ops, times):
                if end >= 0:
                    named = {"layer": int(op["layer"]), "ubatch": int(op["ubatch"]), "phase": text_of(op["phase"]), "lane": text_of(op["lane"])}
                    key = (group, *named.values())
                    last_start[key] = max(start, last_start.get(key, start))
                    ranks[-1].append((named, key, start / 1e6, end / 1e6))
        origin = min(start for rank in ranks for _, _, start, _ in rank)

        def moving(op, key, start, end):
            return min(max(start, last_start[key] / 1e6), end) if op["phase"] in ("dispatch", "combine") else start

        return [[(op, start - origin, moving(op, key, start, end) - origin, end - origin) for op, key, start, end in rank] for rank in ranks]


def read_run(folder):
    """The policies of a run folder, in the experiment's order."""
    policies = [Policy(path.parent) for path in sorted(folder.glob("*/summary.json"))]
    order = re.findall(r'^  - name: "?([^"\n]*)', (folder / "experiment.yaml").read_text(), re.MULTILINE) if policies else []
    return sorted(policies, key=lambda policy: order.index(policy.name) if policy.name in order else len(order))


def decides_tokens(key):
    return key == "policies" or key.startswith(("workload.requests", "workload.rank_scale"))


def concerns(key, policy):
    """Whether an axis of a sweep changes a policy: the list of policies and a key of another policy do not."""
    return key != "policies" and (not key.startswith("policies.") or key.split(".")[1] == policy)


def read_series(folder):
    """Policies by series, {label: [policy, ...]}, and whether they are the points of a sweep."""
    if not (folder / "sweep.json").exists():
        return {policy.name: [policy] for policy in read_run(folder)}, False
    sweep = read_json(folder / "sweep.json")
    series, drawn = {}, set()
    for point in sweep["points"]:
        if point["status"] not in ("complete", "mismatch"):
            print(f"plot: point {point['point']} is left out: {point['status']}", file=sys.stderr)
            continue
        for policy in read_run(folder / point["folder"]):
            values = {key: value for key, value in point["values"].items() if concerns(key, policy.name)}
            kind = json.dumps([policy.name, values])
            if kind in drawn:  # what no axis changes is drawn once: as the first point has measured it
                continue
            drawn.add(kind)
            others = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in values.items() if not decides_tokens(key))
            series.setdefault(policy.name + (f", {others}" if others else ""), []).append(policy)
    return series, True


def title_of(what, policies):
    links = sorted({policy.link for policy in policies})
    emulated = [link for link in links if link != NO_LINK]
    note = "" if not emulated else f"\nlink {links[0]}" if len(links) == 1 else "\nlink emulated in part: " + "; ".join(emulated)
    settings = sorted({policy.setting for policy in policies})
    return f"{policies[0].experiment}: {what}\n{'; '.join(settings)}{note}"


def new_axes(width, height, rows=1):
    figure, axes = plt.subplots(rows, 1, figsize=(width, height), squeeze=False, layout="constrained")
    return figure, [row[0] for row in axes]


def scale_tokens(axes, tokens, *scales):
    """A wide sweep is drawn on logarithmic axes, its tokens named."""
    if max(tokens) >= 8 * max(1, min(tokens)):
        for scale in scales:
            scale("log", base=2)
        axes.set_xticks(sorted(set(tokens)), sorted(set(tokens)), fontsize="small")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("tokens of a step, on the rank that has most")
    axes.legend(fontsize="small")


def valid(series):
    return {label: [policy for policy in policies if policy.is_valid] for label, policies in series.items()}


def plot_step_time(series, is_sweep):
    """Median with the band from the 5th to the 95th percentile."""
    series = {label: policies for label, policies in valid(series).items() if policies}
    if not series:
        return None
    figure, (axes,) = new_axes(7, 4.2)
    for number, (label, policies) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        rows = sorted((policy.tokens(), *np.percentile(policy.step_ms(), [5, 50, 95])) for policy in policies)
        tokens, low, middle, high = map(np.array, zip(*rows))
        if is_sweep:
            axes.plot(tokens, middle, "o-", color=colour, label=label, markersize=4)
            axes.fill_between(tokens, low, high, color=colour, alpha=0.2, linewidth=0)
        else:
            axes.bar(label, middle[0], color=colour, yerr=[[middle[0] - low[0]], [high[0] - middle[0]]], capsize=4)
    axes.set_ylim(bottom=0)
    if is_sweep:
        axes.autoscale(axis="y")
        scale_tokens(axes, [policy.tokens() for policies in series.values() for policy in policies], axes.set_xscale, axes.set_yscale)
    axes.set_ylabel("step time [ms]: median, 5 % to 95 %")
    axes.set_title(title_of("step time", sum(series.values(), [])), fontsize="medium")
    axes.grid(alpha=0.3)
    return figure


def plot_hidden_share(series, is_sweep):
    shares = {label: sorted((policy.tokens(), 100 * policy.hidden_share()) for policy in policies if policy.hidden_share() is not None)
              for label, policies in valid(series).items()}
    shares = {label: rows for label, rows in shares.items() if rows}
    if not shares:
        return None
    figure, (axes,) = new_axes(7, 3.6)
    for number, (label, rows) in enumerate(shares.items()):
        colour = COLOURS[number % len(COLOURS)]
        if is_sweep:
            axes.plot(*zip(*rows), "o-", color=colour, label=label, markersize=4)
        else:
            axes.bar(label, rows[0][1], color=colour)
    if is_sweep:
        scale_tokens(axes, [tokens for rows in shares.values() for tokens, _ in rows], axes.set_xscale)
    axes.set_ylim(0, 105)
    axes.set_ylabel("hidden share of moving [%]")
    axes.set_title(title_of("share of the exchange beside which a rank computes", sum(series.values(), [])), fontsize="medium")
    axes.grid(alpha=0.3)
    return figure


def draw_step(axes, ranks, limit_ms):
    """Two rows a rank, compute over comm; a bar an op, coloured by ubatch, and hatched while an exchange waits for the last rank."""
    bars = {}  # one path for all bars that look alike: small files
    for rank, ops in enumerate(ranks):
        for op, start, moving, end in ops:
            row = 2 * rank + (op["lane"] == "comm")
            bars.setdefault((row, op["ubatch"], False), []).append((moving, end - moving))
            if moving > start:
                bars.setdefault((row, op["ubatch"], True), []).append((start, moving - start))
            share = (end - moving) / limit_ms
            label = op["phase"] if share > 0.011 * len(op["phase"]) else SHORT.get(op["phase"], "") if share > 0.022 else ""
            if label:
                axes.text((moving + end) / 2, row, label, ha="center", va="center", fontsize=6)
    for (row, ubatch, is_waiting), spans in bars.items():
        boxes = [Outline([(start, row - 0.42), (start + length, row - 0.42), (start + length, row + 0.42), (start, row + 0.42), (start, row)],
                         closed=True) for start, length in spans]
        colour = COLOURS[ubatch % len(COLOURS)]
        look = {**WAITING, "edgecolor": colour} if is_waiting else {"facecolor": colour, "edgecolor": "white", "alpha": 0.55 if row % 2 else 0.9}
        axes.add_patch(PathPatch(Outline.make_compound_path(*boxes), linewidth=0.4, **look))
    axes.set_yticks(range(2 * len(ranks)), [f"rank {rank} {lane}" for rank in range(len(ranks)) for lane in ("compute", "comm")], fontsize=7)
    axes.set_ylim(2 * len(ranks) - 0.5, -0.5)


def plot_timeline(series, num_layers):
    """One step of each series, at its largest number of tokens, to the same scale."""
    chosen = {label: max(policies, key=Policy.tokens) for label, policies in valid(series).items() if policies}
    steps, all_layers = {}, 0
    for label, policy in chosen.items():
        ranks = policy.profiled_step()
        if ranks is None:
            print(f"plot: {label} has no profiled steps (record.timing: ops)", file=sys.stderr)
            continue
        all_layers = max([all_layers] + [op["layer"] + 1 for rank in ranks for op, *_ in rank])
        shown = [[one for one in rank if one[0]["layer"] < num_layers and (one[0]["phase"] != "output" or all_layers <= num_layers)]
                 for rank in ranks]
        steps[label] = shown
    if not steps:
        return None
    limit_ms = max(end for ranks in steps.values() for rank in ranks for *_, end in rank)
    rows = sum(2 * len(ranks) for ranks in steps.values())
    figure, all_axes = new_axes(11, 1 + 0.34 * rows + 0.45 * len(steps), len(steps))
    for axes, (label, ranks) in zip(all_axes, steps.items()):
        draw_step(axes, ranks, limit_ms)
        axes.set_xlim(0, limit_ms)
        axes.set_title(f"{label}, {counted(chosen[label].tokens(), 'token')}", fontsize="small", loc="left")
    num_ubatches = 1 + max(op["ubatch"] for ranks in steps.values() for rank in ranks for op, *_ in rank)
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[ubatch % len(COLOURS)]) for ubatch in range(num_ubatches)]
    labels = [f"ubatch {ubatch}" for ubatch in range(num_ubatches)]
    if any(moving > start for ranks in steps.values() for rank in ranks for _, start, moving, _ in rank):
        handles.append(plt.Rectangle((0, 0), 1, 1, edgecolor="black", **WAITING))
        labels.append("waiting for the last rank")
    all_axes[-1].set_xlabel("time [ms]")
    # Below the last axes, as an artist of theirs: the layout then leaves room for it, also in old releases of matplotlib.
    all_axes[-1].legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.35), ncol=8,
                        fontsize="small")
    layers = f"layers 0 to {num_layers - 1} of {all_layers}" if num_layers < all_layers else "all layers"
    figure.suptitle(title_of(f"one profiled step of each policy, {layers}", list(chosen.values())), fontsize="medium")
    return figure


def main():
    parser = argparse.ArgumentParser(prog="plot.py", description="Pictures of a run or of a sweep.")
    parser.add_argument("folder", metavar="RUN_OR_SWEEP_DIR", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the pictures; default: RUN_OR_SWEEP_DIR/plots")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    parser.add_argument("--layers", type=int, default=4, help="layers that the timeline shows; default 4")
    options = parser.parse_args()
    if options.layers < 1:
        raise InputError("--layers must be at least 1")
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder")
    series, is_sweep = read_series(options.folder)
    if not any(policy.is_valid for policies in series.values() for policy in policies):
        raise InputError(f"{options.folder}: no policy with valid times (a run folder holds POLICY/summary.json, a sweep sweep.json)")
    plt.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "dovetail", "font.size": 9, "font.sans-serif": ["DejaVu Sans"]})
    out = options.out or options.folder / "plots"
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in (("step_time", plot_step_time(series, is_sweep)), ("hidden_share", plot_hidden_share(series, is_sweep)),
                         ("timeline", plot_timeline(series, options.layers))):
        if figure is None:
            print(f"plot: no {name}: the run has no profiled steps (record.timing: ops)", file=sys.stderr)
            continue
        path = out / f"{name}.{options.format}"
        if options.format == "svg":
            figure.savefig(path, metadata={"Date": None})
        else:
            figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
        print(path)


if __name__ == "__main__":
    try:
        main()
    except (InputError, KeyError, OSError) as problem:
        print(f"plot: {problem}" if not isinstance(problem, KeyError) else f"plot: the results lack {problem}", file=sys.stderr)
        sys.exit(2)
