#!/usr/bin/env python3
"""What is refused, before anything runs: the exit code, and a message that names place and what is allowed.

bad_input_test.py [unittest arguments]; cli.py has the environment.
"""
import json
import os
import re
import shutil
import unittest

from cli import BIN, TOP, dovetail, execute, mpirun
from small_case import SMALL, SmallTest


class BadInput(SmallTest):
    def refuse(self, expected, *arguments, ranks=2, text=SMALL, code=2):
        path = self.experiment(text)
        outcome = mpirun(ranks, "run", path, "--out", self.folder / "run", *arguments)
        self.assertEqual(outcome.code, code, str(outcome))
        said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]  # not what mpirun adds
        self.assertEqual(len([line for line in said if re.search(expected, line)]), 1, f"want once: {expected}\n{outcome}")
        self.assertFalse((self.folder / "run" / "sequential").exists(), str(outcome))

    def test_processes_that_mpi_does_not_know_of(self):
        """As srun starts them where Slurm has no PMIx: each would be a world of its own."""
        path = self.experiment(ep=1)
        said = ""
        for process in ("0", "1"):
            outcome = dovetail("run", path, "--out", self.folder / "run", environment={"SLURM_NTASKS": "2", "SLURM_PROCID": process})
            self.assertEqual(outcome.code, 2, str(outcome))
            said += outcome.err
        self.assertEqual(said.count("Slurm has started 2 processes (SLURM_NTASKS), but MPI knows of 1 rank"), 1, said)
        self.assertFalse((self.folder / "run").exists())

    def test_settings(self):
        for expected, setting in (
            ("unknown.*architecture.*qwen3_moe", "model.architecture=llama"),
            ("unknown.*sequential.*dual_batch", "policies[1].schedule=tripple"),
            ("exchange.*gather", "execution.exchange=carrier_pigeon"),
            ("padded.*on device cpu|padded.*not built yet", "execution.exchange=padded"),
            ("unknown key.*iterations", "execution.iteration=3"),
            ("stages.*staged", "policies.dual_batch.stages=prefill"),
            ("graph full (on device cpu|with dtype)", "execution.graph=full"),
            ("from 0 to 8, found .9", "policies.dual_batch.ubatches=9"),
            ("no-such-config", "model.config=models/configs/no-such-config.json"),
            ("no-such-folder", "model.weights={checkpoint: no-such-folder}"),
        ):
            with self.subTest(setting=setting):
                self.refuse(expected, "--set", setting)

    def test_ranks_and_experts(self):
        self.refuse("multiple", ranks=3)
        self.refuse("16 experts.* multiple of parallel.expert_parallel = 3", "--set", "parallel.expert_parallel=3", ranks=3)

    def test_one_rank_without_mpirun_where_more_are_needed(self):
        path = self.experiment()
        outcome = dovetail("run", path, "--out", self.folder / "run")
        self.assertEqual(outcome.code, 2, str(outcome))
        arguments = f"run {path} --out {self.folder / 'run'}"
        self.assertIn(f"start them with launch/run_local.sh 2 {arguments}, or mpirun -np 2 {BIN} {arguments}\n", outcome.err)

    def test_what_is_missing_or_unknown_is_listed(self):
        self.refuse("unknown policy 'triple_batch'; the experiment has: sequential, shared_expert, dual_batch, ", "--policy", "triple_batch")
        self.refuse("verify: the key 'mode' is missing; it is required: none, bitwise, tolerance", "--set", "verify={baseline: sequential}")
        self.refuse(rf"models/none.json: .*\(relative paths count from the working directory, {TOP}\)", "--set", "model.config=models/none.json")

    def test_place_in_the_file(self):
        self.refuse(r"experiment.yaml:4:\d+: ", text=SMALL.replace("expert_parallel", "expert_paralel"))

    def test_what_cannot_be_looked_at_is_refused_with_path_and_reason(self):
        loop = self.folder / "loop"
        loop.symlink_to(loop)
        long = self.folder / ("x" * 300)
        file = self.write("x", "file")
        path = self.experiment(ep=1)
        sets = lambda text: ["--ranks", "1", "--set", text]
        for bad, reason in ((loop, "Too many levels of symbolic links"), (loop / "sequential", "Too many levels of symbolic links"), (long, "File name too long")):
            for arguments in (["verify", bad, bad], ["compare", bad], ["check", path, *sets(f"workload.routing={{replay: {bad}}}")],
                              ["check", path, *sets(f"model.weights={{checkpoint: {bad}}}")], ["run", path, "--out", bad],
                              ["run", path, "--set", f"workload.routing={{replay: {bad}}}", "--out", self.folder / "run"]):
                with self.subTest(bad=bad.name[:9], arguments=arguments[:1]):
                    outcome = dovetail(*arguments)
                    self.assertEqual(outcome.code, 2, str(outcome))
                    self.assertRegex(outcome.out + outcome.err, rf"(?s){re.escape(str(bad))}[^\n]*: [^\n]*{reason}")  # verify reports
        outcome = dovetail("run", path, "--out", file / "below")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn(f"{file / 'below'}: cannot be made: Not a directory", outcome.err)

    def test_a_closed_folder_is_not_said_to_be_absent(self):
        """As nobody, since permissions do not hold for root."""
        if os.getuid() != 0 or not shutil.which("setpriv"):
            self.skipTest("needs root and setpriv")
        closed = self.folder / "closed"
        (closed / "inside").mkdir(parents=True)
        closed.chmod(0)
        self.folder.chmod(0o755)
        path = self.experiment(ep=1)
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        if execute([*nobody, BIN, "--help"]).code != 0:
            self.skipTest("the executable or its libraries cannot be read by others")
        for arguments in (["verify", closed / "inside", closed / "inside"], ["compare", closed / "inside"], ["compare", closed],
                          ["check", path, "--ranks", "1", "--set", f"model.weights={{checkpoint: {closed / 'inside'}}}"]):
            with self.subTest(arguments=arguments):
                outcome = execute([*nobody, BIN, *map(str, arguments)])
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.out + outcome.err, f"{closed}.*: .*Permission denied")

    def test_a_pipe_in_the_place_of_a_file_is_refused_at_once(self):
        pipe = self.folder / "pipe.json"
        os.mkfifo(pipe)
        path = self.experiment(SMALL.replace("verify:", "  - {name: auto, candidate: dual_batch, table: absent.json}\nverify:"))
        for arguments in (
            [pipe],
            [path, "--set", f"model.config={pipe}"],
            [path, "--set", f"workload.requests={{file: {pipe}}}"],
            [path, "--set", f"policies.dual_batch.schedule={pipe}"],
            [path, "--set", f"policies.auto.table={pipe}"],
        ):
            with self.subTest(arguments=arguments):
                outcome = dovetail("check", *arguments, "--ranks", 2, limit_s=20)
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertIn(f"{pipe}: cannot be opened or read: not a regular file", outcome.err)
        self.refuse(f"{pipe}: cannot be opened or read: not a regular file", "--set", f"model.config={pipe}")

    def test_check_refuses_what_a_run_refuses(self):
        fixtures = TOP / "tests/fixtures"
        tiny, sharded, empty = fixtures / "qwen3-moe-tiny", self.folder / "sharded", self.folder / "empty"
        empty.mkdir()
        shutil.copytree(fixtures / "tied-dense-sharded", sharded)
        (sharded / "model-00003-of-00007.safetensors").unlink()
        cut = self.folder / "cut"
        shutil.copytree(tiny, cut)
        os.truncate(cut / "model.safetensors", 400_000)
        deeper = self.folder / "deeper"
        deeper.mkdir()
        config = json.loads((tiny / "config.json").read_text())
        (deeper / "config.json").write_text(json.dumps({**config, "num_hidden_layers": config["num_hidden_layers"] + 1}))
        path = self.experiment(count=2)
        few, _ = self.run_experiment(2, path, "few", "--policy", "sequential", "--set", "workload.requests.count=1")
        without, _ = self.run_experiment(2, path, "without", "--policy", "sequential", "--set", "record.outputs=[hidden]")
        policies = "[{name: sequential}, {name: auto, candidate: dual_batch, table: %s}]"

        def checkpoint(folder, config=tiny):
            return [f"model.config={config / 'config.json'}", f"model.weights={{checkpoint: {folder}}}"]

        for expected, settings in (
            ("no-such-folder: no such checkpoint folder", checkpoint("no-such-folder")),
            ("empty: holds no weights", checkpoint(empty)),
            ("model.safetensors: ", checkpoint(cut)),
            ("model-00003-of-00007.safetensors' is not in the folder", checkpoint(sharded, sharded)),
            ("has shape .* the model needs", checkpoint(fixtures / "all-experts-half")),
            ("no tensor 'model.layers.", checkpoint(tiny, deeper)),
            ("none: no such folder", [f"workload.routing={{replay: {empty / 'none'}}}"]),
            ("empty: holds no rank file", [f"workload.routing={{replay: {empty}}}"]),
            ("without/sequential/rank-00000.h5: /route/expert_ids: no such dataset", [f"workload.routing={{replay: {without / 'sequential'}}}"]),
            ("holds the routing of 0 of .* 48 tokens", [f"workload.routing={{replay: {few / 'sequential'}}}"]),
            ("is of layers all; allowed for layers from 2 on", ["model.layers=[2, 4]", f"workload.inputs={{hidden: {few / 'sequential'}}}"]),
            ("none.json: cannot be opened or read", ["policies.dual_batch.schedule=none.json"]),
            ("none.json: cannot be opened or read", ["policies=" + policies % "none.json"]),
            ("policy sequential, rank 0: execution.cache_tokens 16", ["execution.cache_tokens=16"]),
        ):
            with self.subTest(expected=expected):
                arguments = [word for setting in settings for word in ("--set", setting)]
                outcomes = [dovetail("check", path, "--ranks", 2, *arguments), mpirun(2, "run", path, "--out", self.folder / "out", *arguments)]
                said = [re.findall(r"(?m)^dovetail(?:\[rank \d\])?: (.*)$", outcome.err) for outcome in outcomes]
                for outcome, lines in zip(outcomes, said):
                    self.assertEqual(outcome.code, 2, str(outcome))
                    self.assertEqual(len(lines), 1, str(outcome))
                    self.assertRegex(lines[0], expected)
                self.assertEqual(re.sub(r"rank \d's", "this rank's", said[0][0]), re.sub(r"^rank \d: ", "", said[1][0]))

    def test_truncated_checkpoint(self):
        checkpoint = self.folder / "checkpoint"
        shutil.copytree(TOP / "tests/fixtures/qwen3-moe-tiny", checkpoint)
        with open(checkpoint / "model.safetensors", "r+b") as file:
            file.truncate(400_000)
        self.refuse("model.safetensors", "--set", f"model.config={checkpoint / 'config.json'}", "--set",
                    f"model.weights={{checkpoint: {checkpoint}}}")

    def test_a_folder_that_is_not_empty_stays_as_it_is(self):
        out = self.folder / "run"
        out.mkdir()
        (out / "precious.txt").write_text("precious")
        outcome = mpirun(2, "run", self.experiment(), "--out", out)
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("not empty", outcome.err)
        self.assertEqual([path.name for path in out.iterdir()], ["precious.txt"])

    def test_usage(self):
        for arguments in (["run"], ["frobnicate"], ["run", "experiments/quickstart.yaml", "--frobnicate"],
                          ["run", "experiments/no-such-file.yaml"]):
            with self.subTest(arguments=arguments):
                outcome = mpirun(2, *arguments)
                self.assertEqual(outcome.code, 2, str(outcome))

    def test_a_cut_result_file(self):
        run, _ = self.run_experiment(2, self.experiment(), "run", "--policy", "sequential")
        with open(run / "sequential" / "rank-00001.h5", "r+b") as file:
            file.truncate(3000)
        for command in (["verify", run / "sequential", run / "sequential"], ["compare", run], ["compare", run, "--format", "json"]):
            outcome = dovetail(*command)
            self.assertEqual(outcome.code, 2, str(outcome))
            self.assertIn("rank-00001.h5", outcome.out + outcome.err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
