#!/usr/bin/env python3
"""The experiments of tests/gpu/gpu_grids_test.py on CPU ranks, without graphs: what they say can be run, and what is demanded of them holds there.

gpu_texts_test.py [unittest arguments]
"""
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpu"))

from cli import CliTest, dovetail, execute, mpirun  # noqa: E402
from gpu_batch_invariant_test import WORKLOADS  # noqa: E402
from gpu_cases import LIMIT_S, TINY, GpuTest  # noqa: E402
from gpu_grids_test import CHECKPOINT, STAGED, STEPS, WHOLE_CHECKPOINT, Grids, assert_same_rows, replica_folders, replicas_command, stage, text_of, words  # noqa: E402
from gpu_hosts_test import OnHosts  # noqa: E402


class GridTexts(Grids, CliTest):
    attributes = GpuTest.attributes
    files = GpuTest.files
    verify = GpuTest.verify

    def on_cpu(self, text):
        return text.replace("device: cuda", "device: cpu").replace(", graph: full", "").replace("exchange: padded", "exchange: ragged")

    def run_on_cpu(self, ranks, text, name, *arguments):
        path = self.write(self.on_cpu(text), f"{name}.yaml")
        outcome = mpirun(ranks, "run", path, "--out", self.folder / name, *arguments, limit_s=LIMIT_S)
        self.assertEqual(outcome.code, 0, f"{path.read_text()}\n{arguments}\n{outcome}")
        self.check_plan(text, name, ranks, arguments)
        return self.folder / name

    def check_plan(self, text, name, ranks, arguments):
        """As it stands, for GPUs that nobody has looked at."""
        settings = [word for pair in zip(arguments, arguments[1:]) for word in pair if pair[0] == "--set"]
        outcome = dovetail("check", self.write(text, f"{name}-gpu.yaml"), "--ranks", ranks, *settings)
        self.assertEqual(outcome.code, 0, f"{text}\n{outcome}")

    def test_replicas(self):
        for phase, workload in WORKLOADS.items():
            with self.subTest(phase=phase):
                four = self.run_on_cpu(4, text_of(TINY, 2, workload(4)), phase)
                one = self.run_on_cpu(1, text_of(TINY, 1, workload(1)), f"{phase}-one", "--policy", "sequential")
                self.check_bits(one, four)
                self.check_digests(one, four)

    def test_a_replica_without_a_checkpoint(self):
        folders = replica_folders(self.folder)
        path = self.write(self.on_cpu(text_of(CHECKPOINT, 2, WORKLOADS["prefill"](4))), "checkpoint.yaml")
        four = self.folder / "four"
        outcome = execute(replicas_command(folders, [[]] * 4, path, four), limit_s=LIMIT_S)
        self.assertEqual(outcome.code, 0, str(outcome))
        one = self.run_on_cpu(1, text_of(WHOLE_CHECKPOINT, 1, WORKLOADS["prefill"](1)), "one", "--policy", "sequential")
        self.check_digests(one, four)
        self.check_bits(one, four)

    def test_steps(self):
        for name, (model, workload, settings) in STEPS.items():
            with self.subTest(name):
                run = self.run_on_cpu(2, text_of(model, 2, workload), name, *words(settings))
                self.verify(run / "sequential", run / "dual_full", "bitwise")

    def test_stages(self):
        for phase, workload_of in STAGED.items():
            workload = workload_of(2)
            with self.subTest(phase=phase):
                whole = self.run_on_cpu(2, text_of(TINY, 2, workload), f"{phase}-whole", *words(["record.outputs=[hidden]"]))
                first = self.run_on_cpu(2, text_of(TINY, 2, workload), f"{phase}-first", *words(stage(0)))
                second = self.run_on_cpu(2, text_of(TINY, 2, workload), f"{phase}-second", *words(stage(1, first / "dual_full")))
                assert_same_rows(self, whole / "sequential", second / "dual_full")
                with self.assertRaises(AssertionError):  # what the first stage alone makes is something else
                    assert_same_rows(self, whole / "sequential", first / "dual_full")



if __name__ == "__main__":
    unittest.main(verbosity=2)
