#!/usr/bin/env python3
"""Which data faults are caught, by what, and how far beyond its bound: plants each (tests/mpi/fault_cases.py) and prints a table.

    tests/fault_table.py [--device cpu|cuda] [--dtype float32 bfloat16] [--layer 2 12 22] [--graph none piecewise full] [--bin FILE] [--out FOLDER]

float32 is the model of experiments/quickstart.yaml, 4 layers; bfloat16 and float16 are a model of 24. On a GPU graphs need bfloat16, and `full` the exchange
`padded`. `error over bound` is the largest of all recorded tensors, of rows or elements; `of hidden`: of the final hidden states alone, which is what a run
records without `layers`; nan: poison has reached a result. `other bits`: `dovetail verify --mode bitwise` tells the policy from its twin without a fault.
Exit code 1: a fault passes all of this, or a policy without one does not verify."""
import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("DOVETAIL_BIN", "build/bin/dovetail")
os.environ.setdefault("DOVETAIL_MPIRUN", "mpirun --oversubscribe --bind-to none")
sys.path.insert(0, str(Path(__file__).resolve().parent / "mpi"))

import fault_cases  # noqa: E402


def run(options, folder, planted, dtype, graph, exchange=""):
    """Plants faults in one run; returns its folder and the process."""
    folder.mkdir(parents=True)
    exchange = exchange or ("padded" if graph == "full" else "ragged")
    policy = f", graph: {graph}, exchange: {exchange}" if options.device == "cuda" else ""
    path = folder / "faults.yaml"
    path.write_text(fault_cases.experiment(folder, planted, options.device, dtype, policy))
    command = [*os.environ["DOVETAIL_MPIRUN"].split(), "-np", "2", options.bin, "run", str(path), "--out", str(folder / "run"), *fault_cases.allow(planted)]
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(command, env=environment, cwd=Path(__file__).resolve().parents[1], capture_output=True, text=True, timeout=600, check=False)
    return folder / "run", done


def text_of(share):
    return "nan" if math.isinf(share) else f"{share:.3g}"


def differs_in_bits(options, run, name):
    command = [options.bin, "verify", str(run / "right"), str(run / name), "--mode", "bitwise"]
    code = subprocess.run(command, capture_output=True, check=False).returncode
    if code not in (0, 4):
        sys.exit(f"FAILED: {' '.join(command)}: exit code {code}")
    return code == 4


def row_of(options, run, name):
    """(caught by, share of all tensors, share of hidden, differs in bits)."""
    report = fault_cases.verification(run, name)
    shares = fault_cases.shares(report)
    wrong = fault_cases.first_wrong(report)
    routing = report.get("routing") or {}
    by = []
    if wrong:
        is_nan = math.isinf(fault_cases.share(wrong))
        is_row = float(wrong["error"]) > wrong["max_error"]
        by.append(("NaN" if is_nan else "row" if is_row else "element") + f" of {wrong['name']}")
    if not routing.get("passed", True):
        by.append("routing")
    if any(problem.startswith("iterations:") for problem in report["problems"]):
        by.append("hash")
    if report["verdict"] != "verified" and not by:
        by = report["problems"][:1]
    return ", ".join(by) or "nothing", text_of(max(shares.values())), text_of(shares["hidden"]), "yes" if differs_in_bits(options, run, name) else "no"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--layer", nargs="+", type=int, default=[2, 12, 22], help="in the model of 24")
    parser.add_argument("--graph", nargs="+", default=["none"])
    parser.add_argument("--bin", default=os.environ["DOVETAIL_BIN"])
    parser.add_argument("--out", help="an absent folder that keeps the runs")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    top = Path(options.out or tempfile.mkdtemp(prefix="dovetail-faults-"))
    missed = []
    print("| fault | dtype | layer | graph | caught by | error over bound | of hidden | other bits |\n|---|---|---|---|---|---|---|---|")

    def show(name, place, row):
        print("| " + " | ".join([name, *map(str, place), *row]) + " |", flush=True)
        if row[0] == "nothing":
            missed.append(name)

    def finished(folder, done, codes):
        if done.returncode not in codes:
            sys.exit(f"FAILED: {folder}: exit code {done.returncode}: {(done.stderr + done.stdout)[:2000]}")

    points = [(dtype, layer, graph) for dtype in options.dtype for layer in ([2] if dtype == "float32" else options.layer) for graph in options.graph]
    for place in points:
        dtype, layer, graph = place
        planted = fault_cases.cases(layer)
        folder, done = run(options, top / f"{dtype}-{layer}-{graph}", planted, dtype, graph)
        finished(folder, done, (0, 4))
        for name in fault_cases.RIGHT:
            row = row_of(options, folder, name)
            if row[0] != "nothing" or row[-1] != "no":
                sys.exit(f"FAILED: {folder}: policy {name}, which has no fault: {row}")
            print(f"| (none) | {dtype} | | {graph} | | " + " | ".join(row[1:]) + " |")
        for name in planted:
            show(name, place, row_of(options, folder, name))
        for name, fault in fault_cases.waits(layer).items():
            folder, done = run(options, top / f"{dtype}-{layer}-{graph}-{name}", {name: fault}, dtype, graph, "padded")
            finished(folder, done, (0, 3, 4))
            if done.returncode == 3:
                line = next((line for line in done.stderr.splitlines() if "phase" in line), done.stderr[:200])
                show(name, place, ("exit code 3: " + line.split("check failed: ")[-1], "", "", ""))
            else:
                show(name, place, row_of(options, folder, name))
    if not options.out:
        shutil.rmtree(top, ignore_errors=True)
    if missed:
        sys.exit(f"FAILED: not caught: {', '.join(missed)}")


if __name__ == "__main__":
    main()
