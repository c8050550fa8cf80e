#!/usr/bin/env python3
"""The worst relative error of a row, by architecture and phase of work, as a table in Markdown:

    tests/parity_table.py --device cpu|cuda [--jobs 2] [--bin build/bin/dovetail]

- float32: hidden states and logits of whole runs, all policies and grids, against what transformers computed for the fixtures;
- bfloat16 (with --device cuda alone): small models with heads of published sizes, against the CPU in float32, whose experts they follow.
Exit code 1: a row is beyond its bound. Not part of the tests, which check the same without a table. Needs h5py."""
import argparse
import json
import os
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TOP / "tests" / "mpi"), str(TOP / "tests" / "gpu")]

PHASES = ("prefill", "decode", "mixed")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--bin", default=str(TOP / "build" / "bin" / "dovetail"))
    return parser.parse_args()


OPTIONS = options()
os.environ["DOVETAIL_BIN"] = str(Path(OPTIONS.bin).resolve())
os.environ.setdefault("DOVETAIL_MPIRUN", "mpirun --oversubscribe --bind-to none")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from anchor import FIXTURES, AnchorTest, row_error  # noqa: E402
from gpu_cases import GPUS, RANKS  # noqa: E402
from gpu_models_test import EAGER, GRAPHS, ModelTest  # noqa: E402
from small_models import GLM4, KIMI_K2, MIXTRAL, QWEN2, QWEN3, V2, V3  # noqa: E402

WORST = {}  # (architecture, dtype, phase) -> error


def note(architecture, dtype, phase, error):
    key = (architecture, dtype, phase)
    WORST[key] = max(WORST.get(key, 0.0), float(error))


class Float32(AnchorTest):
    DEVICE = OPTIONS.device
    PAGE_SIZE = 16 if OPTIONS.device == "cuda" else 4
    MOST_RANKS = RANKS if OPTIONS.device == "cuda" else 3
    JOBS = OPTIONS.jobs

    def check_policy(self, name, folder, requests, phase, dtype):
        errors = super().check_policy(name, folder, requests, phase, dtype)
        fixture = next(fixture for fixture in sorted(FIXTURES, key=len, reverse=True) if folder.parent.name.startswith(fixture + "-"))
        config = json.loads((TOP / "tests" / "fixtures" / fixture / "config.json").read_text())
        note(config["model_type"], dtype, phase, max(errors))
        return errors

    def test_all(self):
        for phase in PHASES:
            self.check_runs(phase)


@unittest.skipUnless(OPTIONS.device == "cuda" and GPUS, "kernels in bfloat16 need a GPU")
class Bfloat16(ModelTest):
    def rows(self, policy):
        """{(tensor, request, position): row} of all ranks."""
        found = {}
        for path in self.files(policy):
            with h5py.File(path) as file:
                places = {"hidden": (file["input/request_id"], file["input/positions"]), "logits": (file["input/requests"], file["input/request_position"])}
                for tensor, (requests, positions) in places.items():
                    for request, position, row in zip(requests[:], positions[:], file[f"output/{tensor}"][:].astype(np.float32)):
                        found[tensor, int(request), int(position)] = row
        return found

    def check(self, case):
        config, phase = case
        cpu = self.run_model(f"cpu-{phase}", config, phase, "cpu", "float32", policies="")
        gpu = self.run_model(f"gpu-{phase}", config, phase, policies=EAGER + GRAPHS, routing="{replay: %s}" % (cpu / "sequential"))
        wanted = self.rows(cpu / "sequential")
        for policy in ("sequential", "three", "staged", "full", "dual_full"):
            got = self.rows(gpu / policy)
            self.assertEqual(got.keys(), wanted.keys(), policy)
            note(config["model_type"], "bfloat16", phase, max(row_error(got[key], wanted[key]) for key in wanted))

    def test_all(self):
        models = (V2, V3, KIMI_K2, GLM4, MIXTRAL, QWEN2, QWEN3)
        with ThreadPoolExecutor(OPTIONS.jobs) as jobs:
            list(jobs.map(self.check, [(config, phase) for config in models for phase in PHASES]))


def main():
    suite = unittest.TestSuite([Float32("test_all"), Bfloat16("test_all")])
    result = unittest.TextTestRunner(stream=sys.stderr).run(suite)
    columns = [(dtype, phase) for dtype in ("float32", "bfloat16") for phase in PHASES if any(key[1:] == (dtype, phase) for key in WORST)]
    print(f"| {OPTIONS.device} | " + " | ".join(f"{dtype}, {phase}" for dtype, phase in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for architecture in sorted({key[0] for key in WORST}):
        cells = [WORST.get((architecture, *column)) for column in columns]
        print(f"| `{architecture}` | " + " | ".join("" if cell is None else f"{cell:.1e}" for cell in cells) + " |")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
