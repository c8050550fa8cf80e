#!/usr/bin/env python3
"""How often a run claims a difference on this machine: between equal policies, or between two that differ a little.

equal_policies.py [--runs 10] [--pairs 5] [--ranks 2] [--first 'KEY: VALUE, ...'] [--second 'KEY: VALUE, ...' | --plant US] [--experiment FILE]
                  [--set KEY=VALUE]...

Runs an experiment of copies of one policy (--first) and compares them in pairs that share nothing. DOVETAIL_BIN names the
executable, DOVETAIL_MPIRUN the launch line. Prints the speed-up and the interval of each pair, and the share of pairs
whose interval leaves out 1: 5 of 100 where intervals are as wide as they should be. With --second the other one of each
pair is another policy: then the claims should be many, and all on the side of the speed-up over all pairs. With --plant
it is the same policy, in each of whose steps one op of rank 0 takes so many microseconds longer (the fault `delay`): then
it is known how much slower it is, and nearly all pairs should claim that. --experiment takes model, workload and
execution of another experiment than the small one below.
"""
import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]

EXPERIMENT = """
experiment: equal
model: {architecture: qwen3_moe, config: models/configs/qwen3-moe-tiny.json, weights: {seed: 42}}
workload: {phase: prefill, requests: {count: 4, length: 64}, seed: 9}
execution: {warmup: 2, iterations: 10, timeout_s: 60}
policies: [{name: sequential}]
verify: none
"""

DELAYED_OP = "rank: 0, layer: 0, phase: attention"  # every model has it, and nothing runs beside it


def settings_of(options, seed):
    """What the run's experiment has instead of the file's values: [(key, YAML)]."""
    names = [f"copy_{i}" for i in range(2 * options.pairs)]
    keys = (options.first, options.second or options.first)
    policies = ", ".join(f"{{name: {name}, {keys[i % 2]}}}" for i, name in enumerate(names))
    faults = ", ".join(f"{{kind: delay, {DELAYED_OP}, policy: {name}, delay_us: {options.plant}}}" for name in names[1::2])
    return [("parallel.expert_parallel", options.ranks), ("policies", f"[{policies}]"), ("fault", f"[{faults}]" if options.plant else "none"),
            ("sweep", "none"), ("verify", "none"), ("record", "{outputs: [], timing: steps}"), ("execution.round_seed", seed)]


def judge(speed_ups, claims, planted):
    """The last line. `planted`: the speed-up that a planted delay makes; None: unknown."""
    expected = statistics.median(speed_ups) if planted is None else planted
    wrong = sum((claim > 1) != (expected > 1) for claim in claims)
    return (("" if planted is None else f"planted speed-up {planted:.4f}, ") + f"median speed-up {statistics.median(speed_ups):.4f}; {len(claims)} of "
            f"{len(speed_ups)} comparisons claim a difference, {wrong} of them on the other side of 1")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5, help="of each run")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--first", default="schedule: sequential", help="keys of the first policy of each pair")
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--second", help="keys of the other one; without it they are equal")
    other.add_argument("--plant", type=int, metavar="US", help="microseconds by which each step of the other one is longer")
    parser.add_argument("--experiment", type=Path, metavar="FILE", help="the experiment whose model, workload and execution are taken")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the experiment")
    options = parser.parse_args()
    binary = os.environ.get("DOVETAIL_BIN", str(TOP / "build/bin/dovetail"))
    launch = shlex.split(os.environ.get("DOVETAIL_MPIRUN", "mpirun"))
    claims, speed_ups, planted = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        path = options.experiment.resolve() if options.experiment else Path(folder) / "experiment.yaml"
        if not options.experiment:
            path.write_text(EXPERIMENT)
        for run in range(options.runs):
            out = Path(folder) / f"run-{run}"
            settings = [f"{key}={value}" for key, value in settings_of(options, run)] + options.set
            command = [*launch, "-np", str(options.ranks), binary, "run", str(path), "--out", str(out), *(["--allow-fault", "delay"] if options.plant else [])]
            subprocess.run(command + [word for one in settings for word in ("--set", one)], check=True, cwd=TOP, stdout=subprocess.DEVNULL)
            for i in range(options.pairs):
                first, second = f"copy_{2 * i}", f"copy_{2 * i + 1}"
                told = subprocess.run([binary, "compare", str(out), "--baseline", first, "--format", "json"], check=True, capture_output=True)
                policies = {one["name"]: one for one in json.loads(told.stdout)["policies"]}
                policy = policies[second]
                if policy["speed_up_interval"] is None:
                    sys.exit("no interval: too few rounds and steps")
                low, high = policy["speed_up_interval"]
                claimed = not low <= 1 <= high
                speed_ups.append(policy["speed_up"])
                if claimed:
                    claims.append(policy["speed_up"])
                if options.plant:
                    step_us = policies[first]["step_ns"]["p50"] / 1e3
                    planted.append(step_us / (step_us + options.plant))
                print(f"run {run}, {second} over {first}: {policy['speed_up']:.4f} ({low:.4f} to {high:.4f}){' claimed' if claimed else ''}", flush=True)
    if options.second or options.plant:
        print(judge(speed_ups, claims, statistics.median(planted) if planted else None))
    else:
        print(f"{len(claims)} of {len(speed_ups)} comparisons of equal policies claim a difference")


if __name__ == "__main__":
    main()
