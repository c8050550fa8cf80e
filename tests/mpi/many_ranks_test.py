#!/usr/bin/env python3
"""What grows with the number of ranks: a made-up result of many ranks under a small limit of open files; plans of hundreds of ranks.

many_ranks_test.py [unittest arguments]; cli.py has the environment.
"""
import importlib.util
import json
import shlex
import shutil
import sys
import unittest

import h5py

from cli import BIN, TOP, CliTest, dovetail, execute

EXPERIMENT = """
experiment: many
model: {architecture: qwen3_moe, config: tests/fixtures/qwen3-moe-tiny/config.json, weights: {seed: 1}}
workload: {phase: prefill, requests: {count: 2, length: 3}, seed: 9}
execution: {warmup: 0, iterations: 2}
policies: [{name: sequential}, {name: dual_batch, ubatches: 2}]
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden], timing: steps}
"""
DEEPSEEK = """
experiment: large
model: {architecture: deepseek_v3, config: %s, weights: {seed: 1}}
parallel: {expert_parallel: %d}
workload: {phase: decode, requests: {count: 8, length: 1}, context: random, seed: 9}
execution: {dtype: bfloat16, iterations: 2}
policies: [{name: sequential}, {name: dual_batch, ubatches: 2}]
verify: {baseline: sequential, mode: none}
"""


class ResultOfManyRanks(CliTest):
    RANKS = 300  # above the limit of open files

    def multiply(self, folder):
        """Ranks 1 to the last beside rank 0, each with requests of its own."""
        first = folder / "rank-00000.h5"
        for rank in range(self.RANKS):
            path = folder / f"rank-{rank:05}.h5"
            if rank > 0:
                shutil.copyfile(first, path)
        for rank in reversed(range(self.RANKS)):
            with h5py.File(folder / f"rank-{rank:05}.h5", "r+") as file:
                file.attrs["world_size"] = self.RANKS
                file.attrs["rank"] = file.attrs["dp_rank"] = rank
                for name in ("input/request_id", "input/requests"):
                    file[name][:] += 2 * rank

    def limited(self, *arguments):
        command = shlex.join([BIN, *map(str, arguments)])
        return execute(["bash", "-c", f"ulimit -n 256; exec {command}"], limit_s=120)

    def test_rank_files_under_a_small_limit(self):
        run = self.folder / "run"
        outcome = dovetail("run", self.write(EXPERIMENT), "--out", run)
        self.assertEqual(outcome.code, 0, str(outcome))
        for policy in ("sequential", "dual_batch"):
            self.multiply(run / policy)
        outcome = self.limited("verify", run / "sequential", run / "dual_batch", "--format", "json")
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertEqual(json.loads(outcome.out)["verdict"], "verified")
        compared = self.limited("compare", run, "--format", "json")
        self.assertEqual(compared.code, 0, str(compared))
        self.assertEqual([one["status"] for one in json.loads(compared.out)["policies"]], ["complete", "complete"])
        print(f"{self.RANKS} ranks: verify {outcome.seconds:.1f} s, compare {compared.seconds:.1f} s")
        self.draw_report(run)
        # One value of one rank in the middle.
        with h5py.File(run / "dual_batch" / "rank-00200.h5", "r+") as file:
            file["output/hidden"][0, 0] += 1
        outcome = self.limited("verify", run / "sequential", run / "dual_batch", "--format", "json")
        self.assertEqual(outcome.code, 4, str(outcome))

    def draw_report(self, run):
        """launch/report.py and dovetail_results.py, which need no view.h5."""
        missing = [name for name in ("matplotlib", "pandas", "jinja2") if importlib.util.find_spec(name) is None]
        if missing:
            print("no report: not installed: " + ", ".join(missing))
            return
        for policy in ("sequential", "dual_batch"):
            summary = json.loads((run / policy / "summary.json").read_text())
            (run / policy / "summary.json").write_text(json.dumps({**summary, "world_size": self.RANKS}))
            (run / policy / "view.h5").unlink()
        reported = execute(["bash", "-c", "ulimit -n 256; exec " + shlex.join([sys.executable, "-B", str(TOP / "launch/report.py"), str(run)])], limit_s=200)
        self.assertEqual(reported.code, 0, str(reported))
        self.assertIn(f"{self.RANKS} ranks", (run / "report.html").read_text())
        count = f"import dovetail_results; print(dovetail_results.load({str(run)!r}).steps().groupby('policy')['rank'].nunique().to_dict())"
        counted = execute(["bash", "-c", "ulimit -n 256; exec " + shlex.join([sys.executable, "-B", "-c", count])], limit_s=200,
                          environment={"PYTHONPATH": str(TOP / "launch")})
        self.assertEqual(counted.out.strip(), str({"dual_batch": self.RANKS, "sequential": self.RANKS}), str(counted))
        print(f"{self.RANKS} ranks: report {reported.seconds:.1f} s")


class ResultOfAThousandRanks(ResultOfManyRanks):
    RANKS = 1100


class PlansOfManyRanks(CliTest):
    def test_plans_of_256_and_320_ranks(self):
        config = json.loads((TOP / "models/configs/deepseek-v3.json").read_text())
        wider = self.write(json.dumps({**config, "n_routed_experts": 320}), "wider.json")
        for ranks, model in ((256, "models/configs/deepseek-v3.json"), (320, wider)):
            with self.subTest(ranks=ranks):
                path = self.write(DEEPSEEK % (model, ranks))
                outcome = dovetail("check", path, "--ranks", ranks, "--device", "cpu")
                self.assertEqual(outcome.code, 0, str(outcome))
                self.assertRegex(outcome.out, rf"(?m)^ *{ranks - 1} +0 +{ranks - 1} +{ranks - 1}\.\.{ranks - 1} ")
                print(f"{ranks} ranks: check {outcome.seconds:.1f} s")
                plan = dovetail("plan", path, "--policy", "dual_batch", "--format", "json")
                self.assertEqual(plan.code, 0, str(plan))
                self.assertEqual(json.loads(plan.out)["num_ubatches"], 2)

    def test_experts_that_the_ranks_cannot_share_are_refused(self):
        path = self.write(DEEPSEEK % ("models/configs/deepseek-v3.json", 320))
        outcome = dovetail("check", path, "--ranks", "320", "--device", "cpu")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("256 experts; their number must be a positive multiple of parallel.expert_parallel = 320", outcome.err)


if __name__ == "__main__":
    unittest.main()
