#!/usr/bin/env python3
"""How often a run claims a difference on this machine: between equal policies, or between two that differ a little.

equal_policies.py [--runs 10] [--pairs 5] [--ranks 2] [--first 'KEY: VALUE, ...'] [--second 'KEY: VALUE, ...'] [--set KEY=VALUE]...

Runs an experiment of copies of one policy (--first) and compares them in pairs that share nothing. DOVETAIL_BIN names the
executable, DOVETAIL_MPIRUN the launch line. Prints the speed-up and the interval of each pair, and the share of pairs
whose interval leaves out 1: 5 of 100 where intervals are as wide as they should be. With --second the other one of each
pair is another policy: then the claims should be many, and all on the side of the speed-up over all pairs.
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
parallel: {expert_parallel: %(ranks)d}
workload: {phase: prefill, requests: {count: 4, length: 64}, seed: 9}
execution: {warmup: 2, iterations: 10, timeout_s: 60, round_seed: %(seed)d}
policies: [%(policies)s]
verify: none
record: {outputs: [], timing: steps}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=5, help="of each run")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--first", default="schedule: sequential", help="keys of the first policy of each pair")
    parser.add_argument("--second", help="keys of the other one; without it they are equal")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the experiment")
    options = parser.parse_args()
    binary = os.environ.get("DOVETAIL_BIN", str(TOP / "build/bin/dovetail"))
    launch = shlex.split(os.environ.get("DOVETAIL_MPIRUN", "mpirun"))
    names = [f"copy_{i}" for i in range(2 * options.pairs)]
    keys = (options.first, options.second or options.first)
    policies = ", ".join(f"{{name: {name}, {keys[i % 2]}}}" for i, name in enumerate(names))
    claims, speed_ups = [], []
    with tempfile.TemporaryDirectory() as folder:
        for run in range(options.runs):
            path, out = Path(folder) / "experiment.yaml", Path(folder) / f"run-{run}"
            path.write_text(EXPERIMENT % {"ranks": options.ranks, "seed": run, "policies": policies})
            settings = [word for one in options.set for word in ("--set", one)]
            subprocess.run([*launch, "-np", str(options.ranks), binary, "run", str(path), "--out", str(out), *settings], check=True, cwd=TOP,
                           stdout=subprocess.DEVNULL)
            for first, second in zip(names[::2], names[1::2]):
                told = subprocess.run([binary, "compare", str(out), "--baseline", first, "--format", "json"], check=True, capture_output=True)
                policy = next(one for one in json.loads(told.stdout)["policies"] if one["name"] == second)
                if policy["speed_up_interval"] is None:
                    sys.exit("no interval: too few rounds and steps")
                low, high = policy["speed_up_interval"]
                claimed = not low <= 1 <= high
                speed_ups.append(policy["speed_up"])
                if claimed:
                    claims.append(policy["speed_up"])
                print(f"run {run}, {second} over {first}: {policy['speed_up']:.3f} ({low:.3f} to {high:.3f}){' claimed' if claimed else ''}", flush=True)
    if options.second is None:
        print(f"{len(claims)} of {len(speed_ups)} comparisons of equal policies claim a difference")
        return
    middle = statistics.median(speed_ups)
    wrong = sum((claim > 1) != (middle > 1) for claim in claims)
    print(f"median speed-up {middle:.4f}; {len(claims)} of {len(speed_ups)} comparisons claim a difference, {wrong} of them on the other side of 1")


if __name__ == "__main__":
    main()
