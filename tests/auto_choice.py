#!/usr/bin/env python3
"""Whether the policy `auto` loses anything against the better of the two that it chooses between, at any point of a sweep.

auto_choice.py [FILE] [--ranks 2] [--plain sequential] [--candidate dual_batch] [--sweep 'KEY: [VALUES]'] [--out DIR]
               [--set KEY=VALUE]...

Runs the sweep of FILE (experiments/sweep_tokens.yaml), or another one of its experiment, with the two policies, which makes a table of step times, and again
with `auto` by that table beside them. Prints a line for each point: step times, what auto ran, and its step time over that of
the faster one with the 95 % interval of the run. Exit code 1 where auto is slower by more than 1 % at the lower end of an interval.
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


def ratio_to(binary, folder, faster):
    """Step time of auto over that of the policy `faster`, and its interval."""
    told = subprocess.run([binary, "compare", str(folder), "--baseline", faster, "--format", "json"], check=True, capture_output=True)
    auto = next(one for one in json.loads(told.stdout)["policies"] if one["name"] == "auto")
    if auto["speed_up_basis"] not in ("rounds", None):
        sys.exit(f"the interval is over {auto['speed_up_basis']}, which claims nothing: set execution.rounds")
    if auto["speed_up_interval"] is None:
        sys.exit("no interval: too few rounds and steps")
    low, high = auto["speed_up_interval"]
    return 1 / auto["speed_up"], 1 / high, 1 / low


def judge(ratio, low, most_lost=MOST_LOST):
    """What is said of a point at which auto takes `ratio` of the faster one's time, at least `low`."""
    return "SLOWER" if low > 1 + most_lost else "slower by chance" if ratio > 1 + most_lost else "ok"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default=str(TOP / "experiments/sweep_tokens.yaml"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--plain", default="sequential")
    parser.add_argument("--candidate", default="dual_batch")
    parser.add_argument("--sweep", help="in place of the file's, as a line of it: 'workload.requests.count: [1, 2, 4]'")
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

        def sweep(name, maps, seed):
            path, out = folder / f"{name}.yaml", folder / name
            path.write_text(with_policies(text, maps, options.plain))
            settings = [word for one in [f"execution.round_seed={seed}", *options.set] for word in ("--set", one)]
            subprocess.run([*launch, "-np", str(options.ranks), binary, "run", str(path), "--out", str(out), *settings], check=True, cwd=TOP,
                           stdout=subprocess.DEVNULL)
            return out, json.loads((out / "sweep.json").read_text())

        table, _ = sweep("table", both, 1)
        out, chosen = sweep("auto", [*both, auto_of(both[1]) % {"table": table / "sweep.json"}], 2)
        print(f"{'point':40} {options.plain:>12} {options.candidate:>12} {'auto':>9}  {'chosen':12} auto over the faster")
        failed = 0
        for point in chosen["points"]:
            by_name = {one["policy"]: one for one in point["policies"]}
            if point["status"] != "complete":
                sys.exit(f"{point['folder']} is {point['status']}: {point['problem']}")
            times = {name: one["step_ns"]["p50"] / 1e6 for name, one in by_name.items()}
            faster = min(options.plain, options.candidate, key=times.get)
            ratio, low, high = ratio_to(binary, out / point["folder"], faster)
            verdict = judge(ratio, low)
            failed += verdict == "SLOWER"
            values = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in point["values"].items())
            ran = options.plain if by_name["auto"]["vetoed_steps"] else options.candidate
            print(f"{values:40.40} {times[options.plain]:12.3f} {times[options.candidate]:12.3f} {times['auto']:9.3f}  {ran:12.12} "
                  f"{ratio:.3f} ({low:.3f} to {high:.3f}) {verdict}", flush=True)
        print(f"auto is slower than the faster one by more than {MOST_LOST:.0%} at {failed} of {len(chosen['points'])} points")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
