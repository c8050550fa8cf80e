"""The tables of a report: verdicts, step times, the break-even map of a sweep, versions and machine. Rows are dictionaries of text and numbers."""
import json

from result_files import JUDGED, experiment_text, read_json, read_run, verify_baseline

MACHINE = ("host", "device", "cpu", "cores", "compute_threads", "started_at", "git_revision", "compiler", "build_type", "torch_compiled", "cuda",
           "mpi_loaded", "hdf5_loaded", "numerics", "routing", "dtype", "overlap_hindrances", "argv")


def text_of_value(value):
    return value if isinstance(value, str) else json.dumps(value)


def runs_of(folder, series):
    """(words in front of a policy's name, run folder) of the run, or of each point of the sweep that has results."""
    if not series.is_sweep:
        return [("", folder)]
    return [(f"point {point['point']}, ", folder / point["folder"]) for point in read_json(folder / "sweep.json")["points"] if point["status"] in JUDGED]


def verdict_rows(folder, series):
    """Each policy's verdict, how it was compared, and the largest share of a bound that it uses."""
    rows = []
    for prefix, run in runs_of(folder, series):
        policies = read_run(run)
        if not policies:
            continue
        baseline = verify_baseline(experiment_text(run))
        for policy in policies:
            verification = policy.summary.get("verification") or {}
            shares = [max(tensor[own] / tensor[bound] for own, bound in (("error", "max_error"), ("element_error", "max_element_error")))
                      for tensor in verification.get("tensors", []) if tensor.get("max_error") and tensor.get("max_element_error")
                      and None not in (tensor.get("error"), tensor.get("element_error"))]
            rows.append({"where": prefix + policy.name, "verdict": policy.verdict(baseline), "mode": verification.get("mode", ""),
                         "tensors": len(verification.get("tensors", [])), "share": max(shares, default=None),
                         "problems": "; ".join(map(text_of_value, verification.get("problems", [])))})
    return rows


def milliseconds(value):
    return None if value is None else value / 1e6


def speed_up_form(interval):
    """Three decimals where two would not tell the ends of the interval from one another, or from 1."""
    return "%.3f" if interval and interval[1] - interval[0] < 0.02 else "%.2f"


def drift_text(drift):
    """How many per cent longer the last iteration took than the first one, with the interval of that; nothing where a run is too short to tell."""
    if not drift:
        return None
    change, low, high = (f"{100 * share:+.1f}" for share in (drift["change"], *drift["interval"]))
    return f"{change} ({low} to {high})"


KINDS = {"rounds": "The geometric mean over rounds of the time of the baseline over the own time in the round.",
         "medians": "The p50 of the baseline over the own p50, where there are fewer than 3 rounds."}


def speed_up_caption(series):
    """How the speed-ups were computed: by the rounds that a policy has."""
    kinds = []
    for policy in sum(series.lines.values(), []):
        if policy.summary.get("speed_up") is not None:
            rounds = (policy.summary.get("rounds_ns") or {}).get("p50") or []
            kinds.append("rounds" if sum(one is not None for one in rounds) >= 3 else "medians")
    return " ".join(KINDS[kind] for kind in KINDS if kind in kinds)


def whole_rows(series):
    """Of each policy the step time, what comes before the step, and both; and the ideal. Nothing where that was not recorded."""
    rows = []
    for label, policies in series.lines.items():
        for policy in policies:
            summary = policy.summary
            before, times = summary.get("before_ns") or {}, summary.get("step_ns")
            if times and "agreement" in before:
                rows.append({"policy": label, "x": f"{series.x_of(policy):g}" if series.is_sweep else "", "p50": times["p50"] / 1e6,
                             **{key: before[key] / 1e6 for key in ("agreement", "preparation")},
                             "whole": (times["p50"] + before["agreement"] + before["preparation"]) / 1e6,
                             "ideal": milliseconds((summary.get("metrics") or {}).get("ideal_ns"))})
    return rows


def policy_rows(series):
    """Step times and speed-up of each policy; a policy without valid times has none."""
    rows = []
    for label, policies in series.lines.items():
        for policy in policies:
            summary, times = policy.summary, policy.summary.get("step_ns") or {}
            metrics, traffic = summary.get("metrics") or {}, summary.get("traffic") or {}
            drift = (summary.get("drift") or {}).get("run")
            wire = [traffic.get(f"{phase}_wire_bytes") for phase in ("dispatch", "combine")]
            rows.append({"policy": label, "x": f"{series.x_of(policy):g}" if series.is_sweep else "", "ubatches": summary.get("ubatches"),
                         "iterations": times.get("count"), **{key: milliseconds(times.get(key)) for key in ("p50", "p95")},
                         "interval": [end / 1e6 for end in summary.get("step_ns_interval") or []],
                         "speed_up": summary.get("speed_up"), "speed_up_interval": summary.get("speed_up_interval"),
                         "form": speed_up_form(summary.get("speed_up_interval")), "drift": drift_text(drift), "drifts": bool(drift and drift["matters"]),
                         "hidden": metrics.get("hidden_share"), "imbalance": traffic.get("imbalance_ranks"),
                         "wire": sum(wire) / 2**20 if None not in wire else None})
    return rows


def kind_rows(series):
    """The kinds of steps of the policies that have several: their places in an iteration, what was decided, and their times."""
    rows = []
    for label, policies in series.lines.items():
        for policy in policies:
            kinds = policy.summary.get("step_kinds") or []
            for kind in kinds if len(kinds) > 1 else []:
                first, last = kind["steps"]
                times = kind["step_ns"]
                rows.append({"policy": label, "x": f"{series.x_of(policy):g}" if series.is_sweep else "", "count": times["count"],
                             "steps": str(first) if first == last else f"{first} to {last}", "decision": kind["decision"], "schedule": kind["schedule"],
                             **{key: milliseconds(times[key]) for key in ("p50", "p95", "min", "max")}})
    return rows


def judged(summary):
    """What a speed-up shows, as compare claims it: over fewer than 3 rounds, or between runs, nothing but the number."""
    speed_up, counts = summary.get("speed_up"), summary.get("speed_up_counts")
    if speed_up is None:
        return "no times"
    if counts is None:
        return "nothing claimed"
    return "no difference shown" if not counts else "faster" if speed_up > 1 else "slower"


def break_even(folder):
    """For each policy but the baseline a table of speed-ups: the sweep's last key across, its other keys down."""
    sweep = read_json(folder / "sweep.json")
    keys = [key for key in sweep["keys"] if key != "policies"]
    if not keys:
        return []
    tables = {}
    for point in sweep["points"]:
        if point["status"] not in JUDGED:
            continue
        run = folder / point["folder"]
        baseline = verify_baseline(experiment_text(run))
        values = [text_of_value(point["values"][key]) for key in keys]
        for policy in read_run(run):
            if policy.name == baseline:
                continue
            summary = policy.summary
            cell = {"speed_up": summary.get("speed_up"), "judged": judged(summary),
                    "interval": summary.get("speed_up_interval"), "form": speed_up_form(summary.get("speed_up_interval"))}
            tables.setdefault(policy.name, {}).setdefault(tuple(values[:-1]), {})[values[-1]] = cell
    across = list(dict.fromkeys(text_of_value(point["values"][keys[-1]]) for point in sweep["points"]))
    return [{"policy": name, "across": keys[-1], "down": ", ".join(keys[:-1]), "columns": across,
             "rows": [{"name": ", ".join(down), "cells": [cells.get(column) for column in across]} for down, cells in rows.items()]}
            for name, rows in tables.items()]


def machine_rows(policies):
    """(attribute, values) of rank 0 of all policies; one value where they agree."""
    rows = []
    for name in MACHINE:
        values = list(dict.fromkeys(str(policy.summary["attributes"][name]) for policy in policies if name in policy.summary["attributes"]))
        if name == "started_at":
            values = values[:1]
        if values:
            rows.append((name, "; ".join(values)))
    return rows
