"""Runs and sweeps as pandas frames. Needs h5py, numpy and pandas.

    import sys; sys.path.insert(0, "launch")
    import dovetail_results
    results = dovetail_results.load("results/quickstart")
    print(results.policies()[["policy", "verdict", "step_ns.p50", "speed_up"]])
    print(results.steps().groupby(["policy", "rank", "step", "decision"]).step_ns.median() / 1e6)

Columns have the names, and numbers the meanings, of summary.json and of the rank files (results/README.md): what `dovetail` has computed is read, not
computed again. Frames of a sweep begin with the column `point` and one for each of its keys.
"""
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from result_files import (JUDGED, InputError, decisions_of_steps, experiment_text, rank_file, read_json, read_run, rounds_of_iterations,
                          verify_baseline)

LISTS = ("verification", "attributes", "traffic", "iterations")  # of summary.json; frames of their own, or no table
PAIRS = re.compile(r"(?:^|[._])interval$|_bounds_ns$")  # names of what has two ends


class Results:
    """The policies of a run or a sweep that have a summary.json. `config`: the resolved experiment as text. Every frame has a column `policy`."""

    def __init__(self, folder):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder")
        self.config = experiment_text(self.folder)
        sweep = self.folder / "sweep.json"
        points = [point for point in read_json(sweep)["points"] if point["status"] in JUDGED] if sweep.exists() else [None]
        self.entries = []  # (columns of the point, baseline of its run, policy)
        for point in points:
            columns = {"point": point["point"], **{key: _cell(value) for key, value in point["values"].items()}} if point else {}
            run = self.folder / point["folder"] if point else self.folder
            baseline = verify_baseline(experiment_text(run))
            self.entries += [(columns, baseline, policy) for policy in read_run(run)]

    def policies(self):
        """A row for each policy: its verdict and the fields of summary.json that are no lists, by their dotted names. Of an interval or of bounds both ends:
        NAME.low and NAME.high, NaN where there is none."""
        return self._frame(lambda policy, baseline: [{"policy": policy.name, "verdict": policy.verdict(baseline), **_flat(policy.summary)}])

    def verdicts(self):
        """A row for each policy and compared tensor (`tensor` is empty where nothing was compared): errors and their bounds."""
        def rows(policy, baseline):
            verification = policy.summary.get("verification") or {}
            common = {"policy": policy.name, "verdict": policy.verdict(baseline), "mode": verification.get("mode", ""),
                      "problems": "; ".join(map(_text, verification.get("problems", [])))}
            tensors = verification.get("tensors") or [{"name": ""}]
            return [{**common, "tensor": one["name"], **{key: one.get(key) for key in ("rows", "passed", "error", "max_error", "element_error",
                     "max_element_error", "different_bits", "excluded_rows")}} for one in tensors]
        return self._frame(rows)

    def steps(self):
        """A row for each timed step that a rank has run: its round (-1 in files that tell none), how it was decided and which schedule ran, and `step_ns`.
        Steps of one place in the iteration, `step`, and of one decision are of a kind; policies are compared within rounds."""
        def rows(policy, _):
            for rank, path in enumerate(policy.files):
                with rank_file(path) as file:
                    times, rounds, kinds = file["timing/step_ns"][:], rounds_of_iterations(file), decisions_of_steps(file)
                for iteration, step in np.argwhere(times >= 0):
                    decision, schedule = kinds(iteration, step)
                    yield {"policy": policy.name, "rank": rank, "round": int(rounds[iteration]), "iteration": int(iteration), "step": int(step),
                           "decision": decision, "schedule": schedule, "step_ns": int(times[iteration, step])}
        return self._frame(rows)

    def rounds(self):
        """A row for each round of a policy: its median step time `p50_ns`, of the slowest ranks and the mean of an iteration's steps, NaN where the round
        has not run. Rounds of one number are of the same time, and to be compared, where `began_ns` is equal."""
        def rows(policy, _):
            rounds = policy.summary.get("rounds_ns") or {"p50": []}
            return [{"policy": policy.name, "began_ns": rounds["began_ns"], "round": number, "p50_ns": np.nan if time is None else time}
                    for number, time in enumerate(rounds["p50"])]
        return self._frame(rows)

    def ops(self):
        """A row for each op of each profiled step and rank: start and end in ns of rank 0's clock, in the full pass."""
        def rows(policy, _):
            for step in policy.profiled_spans():
                for rank, path in enumerate(policy.files):
                    for op, start, end in policy.recorded_ops(path, step):
                        yield {"policy": policy.name, "profiled_step": step, "rank": rank, **op, "start_ns": int(start), "end_ns": int(end)}
        return self._frame(rows)

    def traffic(self):
        """A row for each layer and expert: the rows that it computed in the last timed iteration, on all ranks."""
        def rows(policy, _):
            table = (policy.summary.get("traffic") or {}).get("tokens_per_expert") or []
            return [{"policy": policy.name, "layer": layer, "expert": expert, "rows": count}
                    for layer, counts in enumerate(table) for expert, count in enumerate(counts)]
        return self._frame(rows)

    def _frame(self, rows_of):
        return pd.DataFrame([{**columns, **row} for columns, baseline, policy in self.entries for row in rows_of(policy, baseline)])


def load(folder):
    """The results in the folder of a run or of a sweep. Raises `result_files.InputError`, which names the file that is missing or damaged."""
    return Results(folder)


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)


def _cell(value):
    return value if isinstance(value, (int, float, str)) else json.dumps(value)


def _flat(summary, prefix=""):
    """{dotted name: value} of what is no list; of what has two ends NAME.low and NAME.high."""
    flat = {}
    for key, value in summary.items():
        name = prefix + key
        if not prefix and key in LISTS:
            continue
        if isinstance(value, dict):
            flat.update(_flat(value, name + "."))
        elif PAIRS.search(name):
            low, high = value or (np.nan, np.nan)
            flat.update({name + ".low": low, name + ".high": high})
        elif not isinstance(value, list):
            flat[name] = value
    traffic = summary.get("traffic") if not prefix else None
    return {**flat, **_flat(traffic, "traffic.")} if traffic else flat
