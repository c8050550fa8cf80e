#!/usr/bin/env python3
"""Pictures of a run or of a sweep: step times, hidden share of the exchange, and a timeline of one profiled step of every policy.

launch/plot.py RUN_OR_SWEEP_DIR [--out DIR] [--format svg|png] [--layers N]

Writes step_time, hidden_share and timeline into --out (default: RUN_OR_SWEEP_DIR/plots) and prints their paths. Exit code 2: bad usage or input.
"""
import argparse
import sys
from pathlib import Path

from packages import need_modules

need_modules("plot", ("h5py", "matplotlib", "numpy"))

import matplotlib.pyplot as plt

from figures import SETTINGS, plot_hidden_share, plot_step_time
from figures_step import plot_timeline
from result_files import InputError, Series, check_run_arguments


def main():
    parser = argparse.ArgumentParser(prog="plot.py", description="Pictures of a run or of a sweep.")
    parser.add_argument("folder", metavar="RUN_OR_SWEEP_DIR", type=Path)
    parser.add_argument("--out", type=Path, help="folder for the pictures; default: RUN_OR_SWEEP_DIR/plots")
    parser.add_argument("--format", choices=("svg", "png"), default="svg")
    parser.add_argument("--layers", type=int, default=4, help="layers that the timeline shows; default 4")
    options = parser.parse_args()
    check_run_arguments(options)
    series = Series(options.folder)
    for point in series.left_out:
        print(f"plot: point {point['point']} is left out: {point['status']}", file=sys.stderr)
    if not series.valid():
        raise InputError(f"{options.folder}: no policy with valid times (a run folder holds POLICY/summary.json, a sweep sweep.json)")
    plt.rcParams.update(SETTINGS)
    out = options.out or options.folder / "plots"
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in (("step_time", plot_step_time(series)), ("hidden_share", plot_hidden_share(series)),
                         ("timeline", plot_timeline(series, options.layers))):
        if figure is None:
            print(f"plot: no {name}: the run has no profiled steps (record.timing: ops)", file=sys.stderr)
            continue
        path = out / f"{name}.{options.format}"
        if options.format == "svg":
            figure.savefig(path, metadata={"Date": None})
        else:
            figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
        print(path)


if __name__ == "__main__":
    try:
        main()
    except (InputError, KeyError, OSError) as problem:
        print(f"plot: {problem}" if not isinstance(problem, KeyError) else f"plot: the results lack {problem}", file=sys.stderr)
        sys.exit(2)
