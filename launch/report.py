#!/usr/bin/env python3
"""One page of a run or of a sweep: verdicts, step times, where the step goes, timeline, exchange, configuration and machine.

launch/report.py RUN_OR_SWEEP_DIR [--out FILE] [--overwrite] [--layers N]

Writes one HTML file without references to others (default: RUN_OR_SWEEP_DIR/report.html) and prints its path. Numbers are those of summary.json and
of `dovetail compare`, which says what is wrong with a run; DOVETAIL_BIN names it. Exit code 2: bad usage or input, or the file is there already.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from packages import need_modules

need_modules("report", ("h5py", "jinja2", "matplotlib", "numpy", "pandas"))

import jinja2

from report_figures import page_figures
from report_tables import break_even, kind_rows, machine_rows, policy_rows, speed_up_caption, verdict_rows, whole_rows
from result_files import InputError, Series, check_run_arguments, experiment_text, read_json

TOP = Path(__file__).resolve().parents[1]


def find_dovetail():
    """The executable, or nothing: then the page says so."""
    named = os.environ.get("DOVETAIL_BIN")
    if named:
        if not os.access(named, os.X_OK):
            raise InputError(f"DOVETAIL_BIN={named} is not there")
        return named
    built = TOP / "build" / "bin" / "dovetail"
    return str(built) if os.access(built, os.X_OK) else shutil.which("dovetail")


def ask_compare(dovetail, folder):
    """What `dovetail compare` says, as JSON; it also prints what it could read where not all could be."""
    process = subprocess.run([dovetail, "compare", str(folder), "--format", "json"], capture_output=True, text=True, timeout=300)
    if process.returncode not in (0, 4) and not process.stdout:
        raise InputError(process.stderr.strip().splitlines()[-1] if process.stderr.strip() else f"{dovetail} compare {folder} failed")
    compared = json.loads(process.stdout)
    if any("notes" not in one for one in compared.get("points", [compared])):
        raise InputError(f"{dovetail} compare tells no notes: it is older than this report; build it anew")
    return compared


def notes_of_points(compared):
    """What compare notes of the points of a sweep: (points that it is said of, text), each text once."""
    found = {}
    for point in compared.get("points", []):
        for note in dict.fromkeys(point["notes"]):
            found.setdefault(note, []).append(point["point"])
    return [(counted_points(points), note) for note, points in found.items()]


def flags_of_points(compared):
    """Which policies of which points compare flags, a line for each flag: what the notes of points say in full."""
    found = {}
    for point in compared.get("points", []):
        for policy in point["policies"]:
            for flag in policy.get("flags", []):
                found.setdefault(flag, {}).setdefault(policy["policy"], []).append(point["point"])
    return [f"{flag.replace('_', ' ')}: " + "; ".join(f"{policy} at {counted_points(points)}" for policy, points in policies.items())
            for flag, policies in found.items()]


def counted_points(points):
    return ("point " if len(points) == 1 else "points ") + ", ".join(map(str, points))


def warnings_of(folder, series, compared):
    """What a reader must know before any number, most grave first: (kind, text). `compared`: what compare says, or nothing."""
    found = []
    for point in read_json(folder / "sweep.json")["points"] if series.is_sweep else []:
        if point["status"] != "complete":
            found.append((point["status"], f"point {point['point']}: {point['problem'] or point['status']}"))
    for policy in (compared or {}).get("policies", []):
        if policy["status"] != "complete":
            found.append((policy["status"], f"{policy['name']}: {policy['problem'] or policy['status']}"))
    for row in verdict_rows(folder, series):
        if row["verdict"] == "not_verified":
            found.append(("not verified", f"{row['where']}: nothing compares its outputs (set verify.baseline)"))
        elif row["verdict"] not in ("verified", "baseline"):
            found.append((row["verdict"], f"{row['where']}: {row['problems'] or 'its outputs do not equal those of the baseline'}"))
    policies = [policy for line in series.lines.values() for policy in line]
    found += [("fault", f"a fault was injected ({fault}): the times are no measurement")
              for fault in sorted({policy.summary.get("fault") or "none" for policy in policies} - {"none"})]
    if compared is None:
        found.append(("remark", "dovetail was not found (DOVETAIL_BIN names it), so nothing says whether the machine was quiet, or what lacks results."))
    else:
        found += [("remark", note) for note in compared.get("notes", []) + flags_of_points(compared)]
    unique, told = [], set()
    for kind, text in found:
        key = text.removeprefix("note: ")
        if key not in told:
            told.add(key)
            unique.append((kind.replace("_", " "), text))
    return unique


def render(folder, layers):
    dovetail = find_dovetail()
    series = Series(folder)
    policies = [policy for line in series.lines.values() for policy in line]
    compared = ask_compare(dovetail, folder) if dovetail else None
    warnings = warnings_of(folder, series, compared)
    if not policies and not any(kind != "remark" for kind, _ in warnings):
        raise InputError(f"{folder}: no results (a run folder holds POLICY/summary.json, a sweep sweep.json)")
    text = experiment_text(folder)
    name = re.search(r"^experiment: (.*)$", text, re.MULTILINE)
    loader = jinja2.FileSystemLoader(Path(__file__).resolve().parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report_page.html").render(
        name=name[1] if name else folder.name, folder=folder.resolve().name, is_sweep=series.is_sweep, config=text,
        warnings=warnings, point_notes=notes_of_points(compared or {}), speed_up_caption=speed_up_caption(series), wholes=whole_rows(series),
        settings=sorted({policy.setting for policy in policies}), links=sorted({policy.link for policy in policies} - {"none"}),
        verdicts=verdict_rows(folder, series), rows=policy_rows(series), kinds=kind_rows(series), maps=break_even(folder) if series.is_sweep else [],
        machine=machine_rows(policies), figures=page_figures(series, layers))


def main():
    parser = argparse.ArgumentParser(prog="report.py", description="One HTML page of a run or of a sweep.")
    parser.add_argument("folder", metavar="RUN_OR_SWEEP_DIR", type=Path)
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: RUN_OR_SWEEP_DIR/report.html")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--layers", type=int, default=4, help="layers that the timeline shows; default 4")
    options = parser.parse_args()
    check_run_arguments(options)
    out = options.out or options.folder / "report.html"
    if out.exists() and not options.overwrite:
        raise InputError(f"{out} is there already; --overwrite replaces it")
    page = render(options.folder, options.layers)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + ".partial")
    partial.write_text(page)
    partial.replace(out)
    print(out)


if __name__ == "__main__":
    try:
        main()
    except (InputError, KeyError, OSError, subprocess.TimeoutExpired) as problem:
        print(f"report: {problem}" if not isinstance(problem, KeyError) else f"report: the results lack {problem}", file=sys.stderr)
        sys.exit(2)
