"""The files of a run or of a sweep as they are: policies with their summary.json, times and profiled steps. Needs h5py and numpy."""
import contextlib
import functools
import json
import re

import h5py
import numpy as np

JUDGED = ("complete", "mismatch")  # points of a sweep that have results
VETOES = ("none", "below_threshold", "rank_veto", "no_work", "table_prefers_plain", "table_has_no_point")  # by their numbers in /timing/decision
GRAPHS = ("none", "piecewise", "full")


class InputError(Exception):
    """Bad usage or input: one line for a person."""


def check_run_arguments(options):
    """Of the tools that draw: `folder` and `layers`."""
    if options.layers < 1:
        raise InputError("--layers must be at least 1")
    if not options.folder.is_dir():
        raise InputError(f"{options.folder}: no such folder")


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


def rounds_of_iterations(file):
    """The round of each timed iteration of a rank file; -1 where the file is of before rounds."""
    return file["timing/round"][:] if "timing/round" in file else np.full(len(file["timing/step_ns"]), -1)


def decisions_of_steps(file):
    """What gives (decision, schedule) of a step of a rank file, (iteration, step), in the words of `each_step` of summary.json."""
    rows = file["timing/decision"][:]
    columns = {name: number for number, name in enumerate(text_of(file["timing/decision"].attrs["columns"]).split(","))}
    schedules = {int(number): text_of(schedule.attrs["name"]) for number, schedule in file["schedule"].items()}

    def describe(iteration, step):
        of = {name: int(rows[iteration, step, number]) for name, number in columns.items()}
        text = "ubatched" if of["ubatched"] else "plain" if not of["reason"] else "vetoed: " + VETOES[of["reason"]]
        graph = f", graph {GRAPHS[of['graph']]}" if of["graph"] else ""
        return text + graph + (", just captured" if of.get("captured") == 1 else ""), schedules[of["schedule"]]

    return describe


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

    @functools.cache
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

    def verdict(self, baseline):
        """The policy's verdict, as the tables of a sweep name it; `baseline`: the run's `verify.baseline`, or nothing."""
        if self.summary.get("verification"):
            return self.summary["verification"]["verdict"]
        if not (self.summary.get("iterations") or {"passed": True})["passed"]:
            return "mismatch"
        if self.summary.get("not_finite"):
            return "not_finite"
        return "baseline" if self.name == baseline else "not_verified"

    def recorded_ops(self, path, step):
        """Of one rank, the ops of a profiled step that ran: (op, start, end in ns of rank 0's clock)."""
        with rank_file(path) as file:
            ops = file[f"schedule/{int(file['timing/profiled_schedule'][step])}"][:]
            times = file["timing/ops"][step] + int(file["timing"].attrs["clock_offset_ns"]) * (file["timing/ops"][step] >= 0)
        for op, (start, end) in zip(ops, times):
            if end >= 0:
                yield {"layer": int(op["layer"]), "ubatch": int(op["ubatch"]), "phase": text_of(op["phase"]), "lane": text_of(op["lane"])}, start, end

    def profiled_spans(self):
        """{profiled step that ran: its length in ns}, of rank 0's full pass."""
        with rank_file(self.files[0]) as file:
            spans = file["timing/profiled_step_ns"][:, 0, :]
        return {int(step): int(spans[step, 1] - spans[step, 0]) for step in np.flatnonzero(spans[:, 1] >= 0)}

    def profiled_step(self):
        """The profiled step of median length: for each rank a list of (op, start, moving, end in ms); nothing without profiled steps. `moving`: from
        when the last rank of the group has come to an exchange; of other ops their start."""
        lengths = self.profiled_spans()
        if not lengths:
            return None
        step = sorted(lengths, key=lengths.get)[len(lengths) // 2]
        ranks, last_start = [], {}
        for path in self.files:
            with rank_file(path) as file:
                group = int(file.attrs["dp_rank"])
            ranks.append([])
            for op, start, end in self.recorded_ops(path, step):
                key = (group, *op.values())
                last_start[key] = max(start, last_start.get(key, start))
                ranks[-1].append((op, key, start / 1e6, end / 1e6))
        origin = min(start for rank in ranks for _, _, start, _ in rank)

        def moving(op, key, start, end):
            return min(max(start, last_start[key] / 1e6), end) if op["phase"] in ("dispatch", "combine") else start

        return [[(op, start - origin, moving(op, key, start, end) - origin, end - origin) for op, key, start, end in rank] for rank in ranks]


def experiment_text(folder):
    path = folder / "experiment.yaml"
    with reading(path):
        return path.read_text()


def verify_baseline(text):
    """`verify.baseline` of a resolved experiment, or nothing."""
    found = re.search(r'^verify:\n(?:  .*\n)*?  baseline: "?([^"\n]+)', text, re.MULTILINE)
    return found[1] if found and found[1] != "none" else None


def read_run(folder):
    """The policies of a run folder that have a summary, in the experiment's order."""
    policies = [Policy(path.parent) for path in sorted(folder.glob("*/summary.json"))]
    order = re.findall(r'^  - name: "?([^"\n]*)', experiment_text(folder), re.MULTILINE) if policies else []
    return sorted(policies, key=lambda policy: order.index(policy.name) if policy.name in order else len(order))


def decides_tokens(key):
    return key == "policies" or key.startswith(("workload.requests", "workload.rank_scale"))


def concerns(key, policy):
    """Whether an axis of a sweep changes a policy: the list of policies and a key of another policy do not."""
    return key != "policies" and (not key.startswith("policies.") or key.split(".")[1] == policy)


TOKENS = "tokens of a step, on the rank that has most"


class Series:
    """The policies of a run or a sweep by line of a picture. `lines`: {label: [policy, ...]}; `x_of(policy)`: where a policy stands on the x axis;
    `x_label`: what that is; `left_out`: points of a sweep without results."""

    def __init__(self, folder):
        self.lines, self.left_out, self.x_label, self.is_sweep = {}, [], TOKENS, (folder / "sweep.json").exists()
        self.x_of = Policy.tokens
        if not self.is_sweep:
            self.lines = {policy.name: [policy] for policy in read_run(folder)}
            return
        points = read_json(folder / "sweep.json")["points"]
        axis = self.choose_axis(points)
        drawn, places = set(), {}
        for point in points:
            if point["status"] not in JUDGED:
                self.left_out.append(point)
                continue
            for policy in read_run(folder / point["folder"]):
                values = {key: value for key, value in point["values"].items() if concerns(key, policy.name)}
                kind = json.dumps([policy.name, values])
                if kind in drawn:  # what no axis changes is drawn once: as the first point has measured it
                    continue
                drawn.add(kind)
                others = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in values.items() if key != axis and not decides_tokens(key))
                places[policy.folder] = point["values"].get(axis)
                self.lines.setdefault(policy.name + (f", {others}" if others else ""), []).append(policy)
        if axis:
            self.x_label, self.x_of = axis, lambda policy: places[policy.folder]

    @staticmethod
    def choose_axis(points):
        """The key along which a sweep is drawn where none of its keys decides the tokens: that of the most numbers, which concerns all policies."""
        values = {}
        for point in points:
            for key, value in point["values"].items():
                values.setdefault(key, []).append(value)
        if any(decides_tokens(key) and key != "policies" for key in values):
            return None
        numbers = {key: len(set(found)) for key, found in values.items() if not key.startswith("policies")
                   and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in found)}
        return max(numbers, key=numbers.get, default=None)

    def valid(self):
        """The lines, of policies with valid times."""
        lines = {label: [policy for policy in policies if policy.is_valid] for label, policies in self.lines.items()}
        return {label: policies for label, policies in lines.items() if policies}
