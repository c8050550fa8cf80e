#!/usr/bin/env python3
"""Which data faults are caught, by what, and how far beyond its bound: plants each (tests/mpi/fault_cases.py) and prints a table.

    tests/fault_table.py [--device cpu|cuda] [--dtype float32 bfloat16] [--graph none piecewise full] [--bin build/bin/dovetail] [--out FOLDER]

float32 is the model of experiments/quickstart.yaml, 4 layers; bfloat16 and float16 are a model of 24. On a GPU graphs need bfloat16, and `full` the exchange
`padded`. Each column of shares is an error over its bound, of rows or elements, whichever is larger: of all recorded tensors, with the name of the
first one that is beyond its bound, and of the final hidden states alone, which a run records without `layers`. `nan`: poison has reached a result.
Exit code 1: a fault passes, or the policy without a fault does not verify."""
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


def row_of(report):
    """(caught by, share of all tensors, share of hidden)."""
    shares = fault_cases.shares(report)
    wrong = fault_cases.first_wrong(report)
    routing = report.get("routing") or {}
    by = []
    if wrong:
        by.append(("NaN" if math.isinf(shares.get(wrong["name"], 0.0)) else "row or element error") + f" of {wrong['name']}")
    if not routing.get("passed", True):
        by.append(f"routing ({routing['wrong']} wrong)")
    by += [problem for problem in report["problems"] if not any(word in problem for word in ("row error", "element error", "routing"))][:1] if not by else []
    return ", ".join(by) or "nothing", text_of(max(shares.values(), default=0.0)), text_of(shares.get("hidden", 0.0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--graph", nargs="+", default=["none"])
    parser.add_argument("--bin", default=os.environ["DOVETAIL_BIN"])
    parser.add_argument("--out", help="an absent folder that keeps the runs")
    options = parser.parse_args()
    options.bin = os.path.abspath(options.bin)
    top = Path(options.out or tempfile.mkdtemp(prefix="dovetail-faults-"))
    missed = []
    print("| fault | dtype | graph | caught by | error over bound | of hidden |\n|---|---|---|---|---|---|")

    def show(name, dtype, graph, caught):
        print(f"| {name} | {dtype} | {graph} | " + " | ".join(caught) + " |", flush=True)
        if caught[0] == "nothing":
            missed.append(name)

    for dtype in options.dtype:
        layer = 2 if dtype == "float32" else 12
        for graph in options.graph:
            planted = fault_cases.cases(layer)
            folder, done = run(options, top / f"{dtype}-{graph}", planted, dtype, graph)
            if done.returncode not in (0, 4):
                sys.exit(f"FAILED: {folder}: exit code {done.returncode}: {(done.stderr + done.stdout)[:2000]}")
            for name in ["right", *planted]:
                report = fault_cases.verification(folder, name)
                if name == "right":
                    if report["verdict"] != "verified":
                        sys.exit(f"FAILED: {folder}: the policy without a fault is a {report['verdict']}")
                    show("(none)", dtype, graph, ("verified", *row_of(report)[1:]))
                else:
                    show(name, dtype, graph, row_of(report) if report["verdict"] != "verified" else ("nothing", *row_of(report)[1:]))
            for name, fault in fault_cases.waits(layer).items():
                folder, done = run(options, top / f"{dtype}-{graph}-{name}", {name: fault}, dtype, graph, "padded")
                if done.returncode == 3:
                    line = next((line for line in done.stderr.splitlines() if "phase" in line), done.stderr[:200])
                    show(name, dtype, graph, ("failure, exit code 3: " + line.split(": ", 2)[-1], "", ""))
                elif done.returncode in (0, 4):
                    report = fault_cases.verification(folder, name)
                    show(name, dtype, graph, row_of(report) if report["verdict"] != "verified" else ("nothing", *row_of(report)[1:]))
                else:
                    sys.exit(f"FAILED: {folder}: exit code {done.returncode}: {(done.stderr + done.stdout)[:2000]}")
    if not options.out:
        shutil.rmtree(top, ignore_errors=True)
    if missed:
        sys.exit(f"FAILED: not caught: {', '.join(missed)}")


if __name__ == "__main__":
    main()
