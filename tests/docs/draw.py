#!/usr/bin/env python3
"""The drawings in the documents: the folders, from tests/boundaries/include_table.txt, and a step of two policies, from `dovetail plan`.

draw.py            writes them
draw.py --check    exit code 1 where a drawing is not what this would write
Environment: DOVETAIL_BIN, the executable.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

from svg import Svg

TOP = Path(__file__).resolve().parents[2]
CORE = ("base", "config", "plan", "exec", "record", "compare")  # dovetail_core
COLUMNS = {"record": 0, "compare": 0, "config": 1, "plan": 1, "exec": 1, "mpi": 2, "comm": 2, "cuda": 3}
CAPTIONS = {"base": "errors, text, hashes", "config": "experiment files", "plan": "policies and schedules", "exec": "who runs the ops",
            "record": "HDF5 files", "compare": "verdicts and times", "mpi": "ranks", "cuda": "GPUs", "comm": "the exchange of tokens",
            "step": "one forward pass: model, exchange, batch", "run": "an experiment from its file to its results",
            "models": "architectures, layers, weights", "launch": "the program dovetail"}
PLAN_FILE = "experiments/own_policy.yaml"
POLICIES = (("sequential", "one ubatch: nothing is computed while rows travel"),
            ("dual_batch", "two ubatches: while the rows of one travel, the other one computes"))
NUM_LAYERS = 2
# Lengths for the drawing, of a whole batch: the exchange takes as long as the compute beside it.
LENGTHS = {"embed": 1, "attention": 3, "route": 1, "dispatch": 4, "experts": 4, "combine": 4, "shared_experts": 1, "mlp": 4, "output": 1}
LABELS = {"embed": "e", "route": "r", "shared_experts": "s", "output": "o"}
UBATCH_COLOURS = ("#9ecae9", "#fdc28a", "#a8d8a0", "#d9b3d9")


def read_folders(text):
    """{folder: folders that it may include, or None for all before it}, in the order of the table."""
    folders = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, may_include, _ = (part.strip() for part in line.split("|"))
            folders[name.removeprefix("framework/")] = None if may_include == "all above" else may_include.split()
    return folders


def draw_architecture(text):
    folders = read_folders(text)
    levels = {}
    for name, may_include in folders.items():
        if may_include is not None:
            levels[name] = 1 + max((levels[other] for other in may_include), default=-1)
    bars = [name for name, may_include in folders.items() if may_include is None]
    top = max(levels.values())
    width, step, height, box = 760, 62, 40, 150
    drawing = Svg(width, 40 + step * (top + 1 + len(bars)))

    def place(name):
        if name in bars or name == "base":
            row = len(bars) - 1 - bars.index(name) if name in bars else len(bars) + top
            return 30, 14 + step * row, width - 60
        return 30 + 183 * COLUMNS.get(name, 3), 14 + step * (len(bars) + top - levels[name]), box

    for name, may_include in folders.items():
        x, y, w = place(name)
        for other in may_include or ():
            if other != "base":
                left, below, other_w = place(other)
                drawing.arrow(x + w / 2, y + height, left + other_w / 2 + 4 * (x - left) / width * 10, below)
    for name in folders:
        x, y, w = place(name)
        drawing.box(x, y, w, height, "#d7e8d0" if name in CORE else "#e8e8e8")
        note = "; may include every folder below" if name in bars else "; every folder may include it" if name == "base" else ""
        drawing.text(x + w / 2, y + 17, name, 13, "middle", "bold")
        drawing.text(x + w / 2, y + 32, CAPTIONS.get(name, "") + note, 10.5, "middle")
    drawing.text(30, 30 + step * (top + 1 + len(bars)), "An arrow: may include. Green: dovetail_core, which links neither torch nor MPI nor CUDA.", 11)
    return str(drawing)


def place_ops(plan):
    """(op, start, end) of the first layers' ops, each as early as its lane and its waits allow."""
    ends, lanes, placed = [], {}, []
    for op in plan["ops"]:
        start = max([lanes.get(op["lane"], 0)] + [ends[wait] for wait in op["waits"]])
        end = start + LENGTHS[op["phase"]] / plan["num_ubatches"]
        ends.append(end)
        lanes[op["lane"]] = end
        if op["layer"] < NUM_LAYERS and op["phase"] != "output":
            placed.append((op, start, end))
    return placed


def draw_steps(plans):
    """One above the other, to one scale; `plans`: {name: (plan, caption)}."""
    placed = {name: place_ops(plan) for name, (plan, _) in plans.items()}
    unit, left = 33, 70
    width = left + unit * max(end for ops in placed.values() for _, _, end in ops) + 20
    drawing = Svg(round(width), 118 * len(plans) + 26)
    for row, (name, ops) in enumerate(placed.items()):
        y = 118 * row
        drawing.text(8, y + 20, f"{name}: {plans[name][1]}", 12, weight="bold")
        rows = {"compute": y + 30, "comm": y + 70}
        for lane, lane_y in rows.items():
            drawing.text(8, lane_y + 20, lane, 11)
        for op, start, end in ops:
            is_exchange = op["phase"] in ("dispatch", "combine")
            x, w = left + unit * start, unit * (end - start)
            drawing.box(x, rows[op["lane"]], w, 30, UBATCH_COLOURS[op["ubatch"] % len(UBATCH_COLOURS)], dashed=is_exchange)
            drawing.text(x + w / 2, rows[op["lane"]] + 19, LABELS.get(op["phase"], op["phase"]), 9, "middle")
        for op, start, _ in ops:
            for wait in op["waits"]:
                other, _, end = ops[wait]
                if other["lane"] != op["lane"]:
                    down = op["lane"] == "comm"
                    drawing.arrow(left + unit * end - 1, rows[other["lane"]] + (30 if down else 0), left + unit * start + 3, rows[op["lane"]] + (0 if down else 30))
    drawing.text(8, 118 * len(plans) + 14, f"The first {NUM_LAYERS} layers. Colours: ubatches. Dashed: the exchange. Arrows: an op waits for the other lane. "
                 "e: embed, r: route, s: shared experts. Lengths are chosen for the drawing.", 10)
    return str(drawing)


def read_plan(policy):
    command = [os.environ["DOVETAIL_BIN"], "plan", PLAN_FILE, "--policy", policy, "--format", "json"]
    return json.loads(subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=True).stdout)


def make_drawings():
    table = (TOP / "tests" / "boundaries" / "include_table.txt").read_text(encoding="utf-8")
    return {"framework/architecture.svg": draw_architecture(table),
            "experiments/pictures/step.svg": draw_steps({name: (read_plan(name), caption) for name, caption in POLICIES})}


def find_differing(root, drawings):
    """Paths of the drawings that are not there as they would be written."""
    return [path for path, text in drawings.items() if not (root / path).exists() or (root / path).read_text(encoding="utf-8") != text]


def main():
    is_check = sys.argv[1:] == ["--check"] and os.environ.get("DOVETAIL_UPDATE_README") is None
    drawings = make_drawings()
    differing = find_differing(TOP, drawings)
    for path in differing:
        if is_check:
            print(f"{path} is not what tests/docs/draw.py draws; to write it: DOVETAIL_UPDATE_README=1")
        else:
            (TOP / path).write_text(drawings[path], encoding="utf-8")
    return 1 if is_check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
