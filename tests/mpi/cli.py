"""What the tests of the whole program share: starting dovetail, alone and under mpirun, and judging its verdicts.

DOVETAIL_BIN names the executable, DOVETAIL_MPIRUN the launch line.
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import h5py

TOP = Path(__file__).resolve().parents[2]
BIN = os.environ["DOVETAIL_BIN"]
MPIRUN = shlex.split(os.environ["DOVETAIL_MPIRUN"])
RANK = [str(TOP / "tests/support/own_host.sh"), BIN] if os.environ.get("DOVETAIL_SHARE_GPU") else [BIN]  # what mpirun starts
FP32_BOUND = 2e-6


class Outcome:
    def __init__(self, process, seconds):
        self.code, self.out, self.err, self.seconds = process.returncode, process.stdout, process.stderr, seconds

    def __str__(self):
        return f"exit code {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


def execute(command, limit_s=55, environment=None):
    """`environment`: variables beside this process's own."""
    begin = time.monotonic()
    process = subprocess.run(command, cwd=TOP, capture_output=True, text=True, errors="replace", timeout=limit_s, env={**os.environ, **(environment or {})})
    return Outcome(process, time.monotonic() - begin)


def dovetail(*arguments, **options):
    return execute([BIN, *map(str, arguments)], **options)


def mpirun(ranks, *arguments, **options):
    return execute([*MPIRUN, "-np", str(ranks), *RANK, *map(str, arguments)], **options)


def mpirun_apart(folders, *arguments, **options):
    """One rank in each folder, so that a relative path is another file on each."""
    ranks = [["-np", "1", "-wdir", str(folder), *RANK, *map(str, arguments)] for folder in folders]
    return execute(MPIRUN + [word for rank in ranks for word in [":", *rank]][1:], **options)


def ranks_of(process):
    """Process numbers of what mpirun has started, in their order."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rsplit(")", 1)[1].split()[1]) == process.pid:
                found.append(int(path.parent.name))
        except OSError:
            continue
    return sorted(found)


def exchanges_on(device):
    """The exchanges that this build has for "CPU" or "GPU": {name: what is said of it there}."""
    told = json.loads(dovetail("info", "--format", "json").out)["exchanges"]
    found = {name: re.search(rf"[(;] ?({device}\b.*?)[;)]", summary[summary.rindex("("):]) for name, summary in told.items()}
    return {name: match[1] for name, match in found.items() if match}


def with_other_policies(known):
    """`known`, {label: (schedule, number of ubatches, further keys)}, and each policy of this build that it does not name, as it is by default."""
    named = {schedule for schedule, _, _ in known.values()} | {"sequential", "auto"}
    others = [name for name in json.loads(dovetail("info", "--format", "json").out)["policies"] if name not in named]
    policies = "[{name: sequential}, " + ", ".join(f"{{name: {name}}}" for name in others) + "]"
    plans = {name: dovetail("plan", "experiments/quickstart.yaml", "--set", f"policies={policies}", "--policy", name, "--format", "json") for name in others}
    found = {name: json.loads(plan.out) for name, plan in plans.items()}
    return known | {name: (name, plan["num_ubatches"], "") for name, plan in found.items()}


def lists(ranks, **a_quarter):
    """The requests of one of `ranks`: all ranks together have the same ones, in the same order, for 1, 2 and 4."""
    return "{" + ", ".join(f"{key}: {values * (4 // ranks)}" for key, values in a_quarter.items()) + "}"


class CliTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="dovetail-cli-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, text, name="experiment.yaml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def write_apart(self, name, *texts):
        """A file of the same name in a folder for each rank; returns the folders."""
        folders = [self.folder / f"rank-{rank}" for rank in range(len(texts))]
        for folder, text in zip(folders, texts):
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        return folders

    def run_experiment(self, ranks, path, name, *arguments, code=0):
        outcome = mpirun(ranks, "run", path, "--out", self.folder / name, *arguments)
        self.assertEqual(outcome.code, code, str(outcome))
        return self.folder / name, outcome

    def assert_verified(self, baseline, policy, mode="tolerance"):
        outcome = dovetail("verify", baseline, policy, "--mode", mode, "--format", "json")
        self.assertEqual(outcome.code, 0, str(outcome))
        report = json.loads(outcome.out)
        self.assertGreaterEqual(len(report["tensors"]), 2)
        for tensor in report["tensors"]:
            self.assertLessEqual(float(tensor["error"]), FP32_BOUND if mode == "tolerance" else 0.0, str(tensor))

    def rows(self, policy_folder, dataset="output/hidden"):
        """(request, position) -> row, over all ranks."""
        found = {}
        for path in sorted(policy_folder.glob("rank-*.h5")):
            with h5py.File(path) as file:
                if dataset == "output/logits":
                    keys = zip(file["input/requests"][:], file["input/request_position"][:])
                else:
                    keys = zip(file["input/request_id"][:], file["input/positions"][:])
                for key, row in zip(keys, file[dataset][:]):
                    self.assertNotIn(key, found)
                    found[tuple(map(int, key))] = row
        return found
