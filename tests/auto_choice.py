#!/usr/bin/env python3
"""Whether the policy `auto` loses anything against the better of the two that it chooses between, at the points of its table, between and beyond them.

auto_choice.py [FILE] [--ranks 2] [--plain sequential] [--candidate dual_batch] [--sweep 'KEY: [VALUES]'] [--table-only] [--out DIR]
               [--set KEY=VALUE]...

Runs the sweep of FILE (experiments/sweep_tokens.yaml), or another one of its experiment, with the two policies, which makes a table of step times, and again
with `auto` by that table beside them. The second sweep also has points that the table has not: of a list of numbers of requests, or of their lengths, one
between each two, half of the least and twice the largest (--table-only: none). Prints a line for each point: step times, what auto ran, and its step time over
that of the better one with the 95 % interval of this run. Exit code 1 where a point fails:
  SLOWER        the whole interval lies above 1.01, whatever auto ran
  WRONG CHOICE  auto ran the other one, and the interval does not exclude that this costs more than 1 %
`slower by chance`: auto ran the better one, so what it took longer is not of the choice.
DOVETAIL_BIN names the executable, DOVETAIL_MPIRUN the launch line.
"""
import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
MOST_LOST = 0.01
FAILURES = ("SLOWER", "WRONG CHOICE")


def policies_of(text, plain, candidate):
    """The experiment's text with these two policies only, and the line of the candidate's map."""
    maps = {}
    for line in re.search(r"^policies:\n((?:  .*\n)+)", text, re.M).group(1).splitlines():
        name = re.match(r"  - \{name: (\w+)", line)
        if name:
            maps[name.group(1)] = line
    for name in (plain, candidate):
        if name not in maps:
            sys.exit(f"no line '- {{name: {name}, ...}}' among the policies; there are: {', '.join(maps)}")
    return [maps[plain], maps[candidate]]


def auto_of(candidate):
    """The map of auto that chooses against `candidate`, which is one of an overlap policy."""
    keys = dict(re.findall(r"(\w+): ([^,{}\[\]]+|\[[^\]]*\]|\{[^}]*\})", candidate[candidate.index("{") + 1:candidate.rindex("}")]))
    schedule = keys.pop("schedule", keys["name"])
    keys.pop("name")
    rest = "".join(f", {key}: {value}" for key, value in keys.items())
    return f"  - {{name: auto, schedule: auto, table: %(table)s, candidate: {schedule}{rest}}}"


def with_policies(text, maps, plain):
    text = re.sub(r"^policies:\n(?:  .*\n)+", "policies:\n" + "\n".join(maps).replace("\\", r"\\") + "\n", text, flags=re.M)
    return re.sub(r"(?<=^verify: \{baseline: )\w+", plain, text, flags=re.M)


def ratio_to(binary, folder, better):
    """Step time of auto over that of the policy `better`, and its interval."""
    told = subprocess.run([binary, "compare", str(folder), "--baseline", better, "--format", "json"], check=True, capture_output=True)
    auto = next(one for one in json.loads(told.stdout)["policies"] if one["name"] == "auto")
    if auto["speed_up_basis"] not in ("rounds", None):
        sys.exit(f"the interval is over {auto['speed_up_basis']}, which claims nothing: set execution.rounds")
    if auto["speed_up_interval"] is None:
        sys.exit("no interval: too few rounds and steps")
    low, high = auto["speed_up_interval"]
    return 1 / auto["speed_up"], 1 / high, 1 / low


def judge(ran_better, ratio, low, high, most_lost=MOST_LOST):
    """What is said of a point at which auto takes `ratio` of the time of the better one, `low` to `high`; `ran_better`: whether it ran that one."""
    if low > 1 + most_lost:
        return "SLOWER"
    if not ran_better and high > 1 + most_lost:
        return "WRONG CHOICE"
    return "slower by chance" if ratio > 1 + most_lost else "ok"


def further_values(values):
    """Numbers between each two and beyond the ends; whole ones where all are whole, and none that is there."""
    ordered = sorted(set(values))
    found = [ordered[0] / 2, *((one + other) / 2 for one, other in zip(ordered, ordered[1:])), 2 * ordered[-1]]
    if all(isinstance(value, int) for value in values):
        found = [int(value) for value in found]
    return sorted({value for value in found if value > 0} - set(values))


def with_further_points(text):
    """The experiment's text, its axes of the number or the length of requests with further values. Other keys are part of what a table was measured under."""
    def extend(found):
        values = json.loads(found[2])
        return f"{found[1]}{json.dumps(sorted(values + further_values(values)))}"
    return re.sub(r"(?<=\n)(  workload\.requests\.\w+: )(\[[\d., ]+\])", extend, text)


def place_of(point, table):
    """Whether the table has the point, or lies around it."""
    if any(point["values"] == one["values"] for one in table["points"]):
        return "in table"
    for key, value in point["values"].items():
        measured = [one["values"][key] for one in table["points"]]
        if isinstance(value, (int, float)) and not min(measured) <= value <= max(measured):
            return "beyond"
    return "between"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=str(TOP / "experiments/sweep_tokens.yaml"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--plain", default="sequential")
    parser.add_argument("--candidate", default="dual_batch")
    parser.add_argument("--sweep", help="in place of the file's, as a line of it: 'workload.requests.count: [1, 2, 4]'")
    parser.add_argument("--table-only", action="store_true", help="judge at the points of the table alone")
    parser.add_argument("--out", help="folder that keeps both sweeps")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the experiment")
    options = parser.parse_args()
    binary = os.environ.get("DOVETAIL_BIN", str(TOP / "build/bin/dovetail"))
    launch = shlex.split(os.environ.get("DOVETAIL_MPIRUN", "mpirun"))
    text = Path(options.file).read_text()
    if options.sweep:
        text = re.sub(r"^sweep:\n(?:  .*\n?)+", "", text, flags=re.M).rstrip("\n") + f"\nsweep:\n  {options.sweep}\n"
    if "\nsweep:\n" not in text:
        sys.exit(f"{options.file} has no sweep; name one by --sweep")
    both = policies_of(text, options.plain, options.candidate)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.out or scratch).resolve()
        folder.mkdir(parents=True, exist_ok=True)

        def sweep(name, maps, seed, further=False):
            path, out = folder / f"{name}.yaml", folder / name
            path.write_text(with_policies(with_further_points(text) if further else text, maps, options.plain))
            settings = [word for one in [f"execution.round_seed={seed}", *options.set] for word in ("--set", one)]
            subprocess.run([*launch, "-np", str(options.ranks), binary, "run", str(path), "--out", str(out), *settings], check=True, cwd=TOP,
                           stdout=subprocess.DEVNULL)
            return out, json.loads((out / "sweep.json").read_text())

        table, measured = sweep("table", both, 1)
        out, chosen = sweep("auto", [*both, auto_of(both[1]) % {"table": table / "sweep.json"}], 2, not options.table_only)
        print(f"{'point':40} {'':8} {options.plain:>12} {options.candidate:>12} {'auto':>9}  {'chosen':12} auto over the better")
        failed = 0
        for point in chosen["points"]:
            by_name = {one["policy"]: one for one in point["policies"]}
            if point["status"] != "complete":
                sys.exit(f"{point['folder']} is {point['status']}: {point['problem']}")
            times = {name: one["step_ns"]["p50"] / 1e6 for name, one in by_name.items()}
            better = min(options.plain, options.candidate, key=times.get)
            ran = options.plain if by_name["auto"]["vetoed_steps"] else options.candidate
            ratio, low, high = ratio_to(binary, out / point["folder"], better)
            verdict = judge(ran == better, ratio, low, high)
            failed += verdict in FAILURES
            values = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in point["values"].items())
            print(f"{values:40.40} {place_of(point, measured):8} {times[options.plain]:12.3f} {times[options.candidate]:12.3f} {times['auto']:9.3f}  {ran:12.12} "
                  f"{ratio:.3f} ({low:.3f} to {high:.3f}) {verdict}", flush=True)
        print(f"auto loses, or may have lost by its choice, more than {MOST_LOST:.0%} at {failed} of {len(chosen['points'])} points")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
