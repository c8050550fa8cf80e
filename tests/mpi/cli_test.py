#!/usr/bin/env python3
"""The whole program from the command line: dovetail under mpirun, its exit codes, its last lines, and its files as h5py sees them.

cli_test.py [unittest arguments]; DOVETAIL_BIN names the executable, DOVETAIL_MPIRUN the launch line.
"""
import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

from cli import BIN, TOP, dovetail, mpirun
from small_case import SMALL, SmallTest


class Run(SmallTest):
    def test_quickstart_is_verified_and_readable(self):
        run, outcome = self.run_experiment(2, "experiments/quickstart.yaml", "run")
        lines = outcome.out.strip().splitlines()[-4:]
        self.assertEqual(lines[0], f"results {run}")
        for line, policy, verdict in zip(lines[1:], ["sequential", "dual_batch", "dual_inline"],
                                         ["baseline", "verified", "verified"]):
            self.assertRegex(line, rf"^policy {policy} step_ms \d+\.\d+( speed_up .*\))? verdict {verdict}$")
        with h5py.File(run / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(file.attrs["status"], b"complete")
            self.assertEqual(file["output/hidden"].shape, (7 * 127, 64))
            self.assertTrue(np.isfinite(file["output/hidden"][:]).all())
            self.assertTrue((file["timing/step_ns"][:] > 0).all())
            self.assertTrue((file["timing/decision"][:, :, 0] == 1).all())
            self.assertEqual(list(file["input/requests"][:]), list(range(7, 14)))
        with h5py.File(run / "dual_batch" / "view.h5") as view:
            self.assertEqual(view["output/logits"].shape, (2, 7, 256))
            with h5py.File(run / "dual_batch" / "rank-00001.h5") as file:
                np.testing.assert_array_equal(view["output/logits"][1], file["output/logits"][:])
        summary = json.loads((run / "dual_batch" / "summary.json").read_text())
        self.assertEqual(summary["verification"]["verdict"], "verified")
        events = json.loads((run / "dual_batch" / "trace.json").read_text())["traceEvents"]
        self.assertTrue(any(event.get("name", "").startswith("dispatch") for event in events))

    def test_the_first_line_says_what_decides_and_what_comes_next_is_no_line_for_scripts(self):
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_gather", "--set", "record.timing=steps")
        self.assertRegex(outcome.out.splitlines()[0], r"^run: 2 ranks on 1 host; cpu \(.+\); expert parallel 2 x data parallel 1; dtype float32; "
                         r"numerics fast; exchange ragged \(dual_gather: gather\); link shared memory of the host; 2 iterations after 1 of warm-up$")
        self.assertRegex(outcome.out.splitlines()[-1], "^policy dual_gather step_ms .* verdict verified( |$)")
        compare = re.search(r"(?m)^compare: (.+)$", outcome.out)[1]
        self.assertEqual(compare, f"{BIN} compare {run}")
        self.assertIn("--set record.timing=ops", outcome.out)
        _, with_ops = self.run_experiment(2, self.experiment(), "ops", "--policy", "sequential")
        self.assertNotIn("record.timing", with_ops.out)

    def test_outputs_that_are_not_finite_are_named_whatever_is_verified(self):
        checkpoint = self.folder / "checkpoint"
        shutil.copytree(TOP / "tests/fixtures/qwen3-moe-tiny", checkpoint)
        with open(checkpoint / "model.safetensors", "r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            begin, _ = json.loads(file.read(size))["model.norm.weight"]["data_offsets"]
            file.seek(8 + size + begin)
            file.write(b"\xff" * 4)  # NaN in any dtype
        weights = ["--set", f"model.config={checkpoint / 'config.json'}", "--set", f"model.weights={{checkpoint: {checkpoint}}}"]
        named = "policy sequential: not finite: hidden of rank 0, request 0, position 0, element 0 is nan"
        run, outcome = self.run_experiment(2, self.experiment(), "none", "--policy", "sequential", "--set", "verify={mode: none}", *weights)
        self.assertIn(named + "\n", outcome.out)
        self.assertRegex(outcome.out.splitlines()[-1], "^policy sequential step_ms .* verdict not_finite$")
        self.assertEqual(json.loads((run / "sequential/summary.json").read_text())["not_finite"]["tensor"], "hidden")
        run, outcome = self.run_experiment(2, self.experiment(), "both", "--policy", "dual_batch", *weights, code=4)
        self.assertIn(named + "; nothing can be verified against it\n", outcome.out)
        self.assertIn("policy sequential step_ms invalid verdict not_finite", outcome.out)
        self.assertIn("policy dual_batch step_ms invalid verdict mismatch", outcome.out)
        self.assertIn(f"verify: {BIN} verify {run / 'sequential'} {run / 'dual_batch'}\n", outcome.out)
        self.run_experiment(2, self.experiment(), "alone", "--policy", "sequential", *weights, code=4)

    def test_the_recorded_experiment_resolves_to_itself(self):
        first, _ = self.run_experiment(2, self.experiment(), "first", "--set", "execution.iterations=3")
        second, _ = self.run_experiment(2, first / "experiment.yaml", "second")
        self.assertEqual((first / "experiment.yaml").read_text(), (second / "experiment.yaml").read_text())
        with h5py.File(second / "sequential" / "rank-00000.h5") as file:
            self.assertEqual(file["timing/step_ns"].shape[0], 3)
            self.assertEqual(file["config"][()].decode(), (first / "experiment.yaml").read_text())

    def test_policies_agree_to_the_bit_where_they_must(self):
        run, _ = self.run_experiment(2, self.experiment(), "run")
        self.assert_verified(run / "dual_batch", run / "dual_inline", "bitwise")
        self.assert_verified(run / "dual_batch", run / "dual_gather", "bitwise")
        self.assert_verified(run / "sequential", run / "dual_3")

    def test_uneven_and_idle_ranks(self):
        run, _ = self.run_experiment(4, "experiments/uneven_ranks.yaml", "run", "--set", "execution.iterations=2")
        with h5py.File(run / "dual_batch" / "rank-00002.h5") as idle:
            self.assertEqual(idle["input/input_ids"].shape, (0,))
            self.assertTrue((idle["timing/decision"][:, 0, 0] == 1).all())
        with h5py.File(run / "dual_vetoed" / "rank-00000.h5") as vetoed:
            self.assertTrue((vetoed["timing/decision"][:, 0, 0] == 0).all())
            self.assertTrue((vetoed["timing/decision"][:, 0, 3] == 1).all())

    def test_a_rank_vetoes_one_step(self):
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_batch", "--set",
                                           "fault={kind: veto, rank: 1, iteration: 2}")
        self.assertIn("fault injected", outcome.out)
        with h5py.File(run / "dual_batch" / "rank-00000.h5") as file:
            self.assertEqual(file["timing/decision"][:, 0, :].tolist(), [[1, 0, 0, 0, -1, 1, 0], [0, 0, 1, 2, 1, 1, 0]])

    def test_routing_is_replayed_within_a_run_and_from_an_earlier_one(self):
        path = self.experiment()
        within, _ = self.run_experiment(2, path, "within", "--set", "verify.routing=replay")
        replay = f"workload.routing={{replay: {within / 'sequential'}}}"
        later, _ = self.run_experiment(2, path, "later", "--set", replay)
        self.assert_verified(within / "sequential", later / "dual_batch")
        with h5py.File(later / "dual_batch" / "rank-00000.h5", "r") as file:
            self.assertEqual(file.attrs["routing"], "replayed")
            self.assertTrue((file["route/natural_expert_ids"][:] == file["route/expert_ids"][:]).all())

    def test_replay_takes_the_recorded_experts(self):
        path = self.experiment()
        first, _ = self.run_experiment(2, path, "first", "--policy", "sequential")
        for name in ("rank-00000.h5", "rank-00001.h5"):  # other experts than the model would choose
            with h5py.File(first / "sequential" / name, "r+") as file:
                file["route/expert_ids"][:] = (file["route/expert_ids"][:] + 1) % 16
        replay = f"workload.routing={{replay: {first / 'sequential'}}}"
        second, _ = self.run_experiment(2, path, "second", "--policy", "sequential", "--set", replay)
        with h5py.File(first / "sequential" / "rank-00000.h5") as a, h5py.File(second / "sequential" / "rank-00000.h5") as b:
            np.testing.assert_array_equal(a["route/expert_ids"][:], b["route/expert_ids"][:])
            self.assertGreater(np.abs(a["output/hidden"][:] - b["output/hidden"][:]).max(), 1e-3)

    def test_reduced_precision_runs(self):
        for dtype in ("bfloat16", "float16"):
            run, _ = self.run_experiment(2, self.experiment(), dtype, "--set", f"execution.dtype={dtype}",
                                         "--set", "verify.routing=replay")
            with h5py.File(run / "sequential" / "rank-00000.h5") as file:
                self.assertTrue(np.isfinite(file["output/logits"][:].astype(np.float32)).all())


class Grids(SmallTest):
    def test_all_grids_compute_the_same(self):
        # 8 requests in all, on 1, 2 and 4 ranks, with 1, 2 and 4 ranks in an ep group.
        reference, _ = self.run_experiment(1, self.experiment(ep=1, count=8), "reference")
        for ranks, ep in ((2, 1), (2, 2), (4, 1), (4, 2), (4, 4)):
            with self.subTest(ranks=ranks, ep=ep):
                run, _ = self.run_experiment(ranks, self.experiment(ep=ep, count=8 // ranks), f"run-{ranks}-{ep}")
                for policy in ("sequential", "dual_batch", "dual_3"):
                    self.assert_verified(reference / "sequential", run / policy)


class Verdicts(SmallTest):
    """What verify must not pass: a run is damaged in one place and compared with itself as it was."""

    @classmethod
    def setUpClass(cls):
        cls.base = Path(tempfile.mkdtemp(prefix="dovetail-cli-"))
        path = cls.base / "experiment.yaml"
        path.write_text(SMALL % {"ep": 2, "count": 4})
        outcome = mpirun(2, "run", path, "--out", cls.base / "run", "--policy", "dual_batch")
        assert outcome.code == 0, str(outcome)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    def damaged(self, damage):
        policy = self.folder / "dual_batch"
        shutil.copytree(self.base / "run" / "dual_batch", policy)
        with h5py.File(policy / "rank-00001.h5", "r+") as file:
            damage(file)
        return dovetail("verify", self.base / "run" / "sequential", policy)

    def test_untouched_passes(self):
        self.assertEqual(self.damaged(lambda file: None).code, 0)

    def test_one_element(self):
        def damage(file):
            file["output/hidden"][17, 5] += 0.01
        outcome = self.damaged(damage)
        self.assertEqual(outcome.code, 4, str(outcome))
        self.assertIn("request 4, position 17, element 5", outcome.out)

    def test_two_swapped_tokens(self):
        def damage(file):
            rows = file["output/hidden"][:]
            rows[[3, 4]] = rows[[4, 3]]
            file["output/hidden"][:] = rows
        self.assertEqual(self.damaged(damage).code, 4)

    def test_one_wrong_expert(self):
        def damage(file):
            ids = file["route/expert_ids"][:]
            ids[1, 7, 0] = next(expert for expert in range(16) if expert not in ids[1, 7])
            file["route/expert_ids"][:] = ids
        outcome = self.damaged(damage)
        self.assertEqual(outcome.code, 4, str(outcome))
        self.assertIn("layer 1", outcome.out)

    def test_a_nan(self):
        def damage(file):
            file["output/logits"][0, 0] = np.nan
        self.assertEqual(self.damaged(damage).code, 4)

    def test_other_weights(self):
        def damage(file):
            file.attrs.modify("weights_digest", np.bytes_(b"0" * 16))
        self.assertNotEqual(self.damaged(damage).code, 0)

    def test_a_missing_rank(self):
        policy = self.folder / "dual_batch"
        shutil.copytree(self.base / "run" / "dual_batch", policy)
        (policy / "rank-00001.h5").unlink()
        outcome = dovetail("verify", self.base / "run" / "sequential", policy)
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("rank 1", outcome.out + outcome.err)

    def test_a_mismatch_ends_the_run_with_4_and_invalid_times(self):
        # Bitwise equality with the whole run is not to be had for a ubatch of one token: its matrix products are vector products.
        run, outcome = self.run_experiment(2, self.experiment(), "run", "--policy", "dual_3", "--set", "verify.mode=bitwise",
                                           "--set", "policies.dual_3.split={sizes: [1, 2, 0]}", code=4)
        self.assertIn("policy dual_3 step_ms invalid verdict mismatch", outcome.out)
        self.assertEqual(json.loads((run / "dual_3" / "summary.json").read_text())["timings"], "invalid")


if __name__ == "__main__":
    unittest.main(verbosity=2)
