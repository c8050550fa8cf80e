#!/usr/bin/env python3
"""The commands beside `run`: check, plan, info, bench, compare.

tools_test.py [unittest arguments]; cli.py has the environment.
"""
import itertools
import json
import unittest

import h5py

from cli import TOP, dovetail, exchanges_on, mpirun
from small_case import SmallTest


class Tools(SmallTest):
    def test_check_plan_info_print_json(self):
        check = json.loads(dovetail("check", "experiments/uneven_ranks.yaml", "--ranks", 4, "--format", "json").out)
        self.assertEqual([rank["tokens"] for rank in check["grid"]["ranks"]], [640, 320, 0, 160])
        self.assertTrue(all(memory["total"] > 0 for memory in check["memory_bytes_by_rank"]))
        plan = json.loads(dovetail("plan", "experiments/quickstart.yaml", "--policy", "dual_batch", "--format", "json").out)
        self.assertEqual(plan["num_ubatches"], 2)
        lines = [dovetail("plan", "experiments/gpu_prefill.yaml", "--policy", name).out.splitlines()[-1] for name in ("plain", "dual", "dual_16_sms")]
        self.assertEqual(lines, [f"on a GPU: comm SMs {own}, in plain steps {plain}" for own, plain in (("all", "all"), ("8", "all"), ("16", "16"))])
        self.assertIn("digraph", dovetail("plan", "experiments/quickstart.yaml", "--policy", "dual_batch", "--format", "dot").out)
        info = json.loads(dovetail("info", "--format", "json").out)
        self.assertIn("qwen3_moe", info["architectures"])
        self.assertIn("ragged", info["exchanges"])

    def test_a_bench_of_ranks_that_mpi_does_not_know_of_is_refused(self):
        small = ["bench", "exchange", "--device", "cpu", "--tokens", "3", "--hidden", "64", "--experts", "8", "--top-k", "2"]
        for variables, code, said in (
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, 2, "Slurm has started 2 processes (SLURM_NTASKS), but MPI knows of 1 rank"),
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, 2, ""),  # the first process speaks for all
                ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, 2, "MPI has no way to find them (no PMIX_RANK)"),
                ({"OMPI_COMM_WORLD_SIZE": "4"}, 2, "Open MPI's mpirun has started 4 processes"),
                ({"DOVETAIL_START_LIMIT_S": "soon"}, 2, "DOVETAIL_START_LIMIT_S: 'soon'")):
            with self.subTest(variables=variables):
                outcome = dovetail(*small, environment=variables)
                self.assertEqual(outcome.code, code, str(outcome))
                self.assertIn(said, outcome.err)
                self.assertEqual(outcome.out, "")

    def test_bench_exchange_measures_and_checks(self):
        routings = ["balanced", "one_sided", "empty"]
        options = ["bench", "exchange", "--device", "cpu", "--tokens", "3,40", "--hidden", "64", "--experts", "8", "--top-k", "2", "--routings"]
        outcome = mpirun(2, *options, ",".join(routings), "--format", "json")
        self.assertEqual(outcome.code, 0, str(outcome))
        told = json.loads(outcome.out)  # of one rank
        self.assertEqual((told["ranks"], told["hidden"], told["experts"]), (2, 64, 8))
        rows = {(row["exchange"], row["tokens"], row["routing"]): row for row in told["rows"]}
        self.assertEqual(set(rows), set(itertools.product(exchanges_on("CPU"), [3, 40], routings)) | {("(MPI all-to-all)", n, "balanced") for n in (3, 40)})
        self.assertEqual({row["wrong_words"] for row in rows.values()}, {0})
        for (exchange, tokens, routing), row in rows.items():
            with self.subTest(exchange=exchange, tokens=tokens, routing=routing):
                self.assertGreater(row["dispatch_us"], 0)
                if exchange.startswith("("):
                    self.assertEqual({row[name] for name in ("combine_us", "host_us", "combine_gbs", "combine_bus_gbs", "dispatch_choices_gbs")}, {None})
                    self.assert_bandwidth(row, "dispatch", "bus", tokens * 256)  # to the other rank
                    continue
                self.assertEqual(row["combine_gbs"] > 0, routing != "empty")
                routed = 0 if routing == "empty" else tokens * 2 * 256  # rows to both ranks, and as many choices
                for call in ("dispatch", "combine"):
                    self.assert_bandwidth(row, call, "logical", routed)
                    self.assert_bandwidth(row, call, "bus", routed / 2)
                    self.assert_bandwidth(row, call, "choices", routed)
        # All tokens of rank 0 go to rank 1: 40 rows of 64 floats, and a little that says what they are.
        self.assertTrue(40 * 256e-6 < rows["ragged", 40, "one_sided"]["dispatch_mb"] < 40 * 320e-6)
        self.assert_chosen_by(told)
        cut = json.loads(mpirun(2, *options, "balanced", "--groups", "1,2,4", "--format", "json").out)
        groups = {(row["exchange"], row["tokens"], row["groups"]) for row in cut["rows"] if not row["exchange"].startswith("(")}
        self.assertEqual(groups, set(itertools.product(exchanges_on("CPU"), [3, 40], [1, 2, 4])))
        for row in cut["rows"]:
            self.assertEqual(row["wrong_words"], 0, row)
            if row["groups"] > 1:
                self.assertTrue(0 < row["first_dispatch_us"] < row["dispatch_us"], row)
                self.assertTrue(0 < row["first_combine_us"] < row["combine_us"], row)
        many = mpirun(2, *options, "balanced", "--groups", "2,5")
        self.assertEqual(many.code, 2, str(many))
        self.assertEqual(many.err.count("5 groups of the 4 experts of a rank; allowed: at most one group an expert"), 1, str(many))
        wrong = mpirun(2, *options, "even")
        self.assertEqual(wrong.code, 2, str(wrong))
        self.assertEqual(wrong.err.count("unknown routing 'even'; known: balanced, zipf, one_sided, empty"), 1, str(wrong))

    def assert_bandwidth(self, row, call, kind, wanted_bytes):
        self.assertAlmostEqual(row[f"{call}_{kind}_gbs"] * row[f"{call}_us"] * 1e3, wanted_bytes, delta=1, msg=str(row))

    def test_bench_exchange_counts_a_row_for_a_rank_not_for_a_choice(self):
        options = ["bench", "exchange", "--device", "cpu", "--tokens", "128", "--hidden", "64", "--experts", "16", "--top-k", "8", "--exchanges", "ragged"]
        row = json.loads(mpirun(2, *options, "--routings", "balanced", "--format", "json").out)["rows"][0]
        self.assert_bandwidth(row, "dispatch", "logical", 65536)
        self.assert_bandwidth(row, "combine", "bus", 32768)
        self.assert_bandwidth(row, "dispatch", "choices", 262144)
        table = mpirun(2, *options, "--routings", "balanced").out.splitlines()
        head = next(line for line in table if line.startswith("exchange "))
        columns = head.split()
        self.assertIn("dispatch_logical_gbs", columns)
        self.assertIn("combine_bus_gbs", columns)
        ceiling = next(line for line in table if line.startswith("(MPI all-to-all)")).replace("(MPI all-to-all)", "ceiling").split()
        self.assertEqual({ceiling[columns.index(name)] for name in ("combine_us", "host_us", "combine_gbs")}, {"-"})

    def test_bench_partition_is_of_gpus(self):
        for arguments, message in ((["--device", "cpu"], "device cpu; allowed: auto, cuda"), (["--tokens", "1,2"], "tokens; allowed: one number"),
                                   (["--comm-sms", "12"], "comm SMs; allowed: 0 (no bound), 1, 2, 4")):
            outcome = mpirun(2, "bench", "partition", *arguments)
            self.assertEqual((outcome.code, outcome.out), (2, ""), str(outcome))
            self.assertEqual(outcome.err.count(f"bench partition: {message}"), 1, str(outcome))
        if not any(name.startswith("cuda:") for name in json.loads(dovetail("info", "--format", "json").out)["devices"]):
            outcome = mpirun(2, "bench", "partition")
            self.assertEqual((outcome.code, outcome.out), (2, ""), str(outcome))
            self.assertRegex(outcome.err, r"this build is without CUDA|this process sees 0 for 2 ranks")

    def assert_chosen_by(self, told):
        """A run takes the exchange that a table of its machine has as the fastest; a table of another machine is refused."""
        arguments = ["experiments/quickstart.yaml", "--set", "execution.iterations=1", "--set", "execution.device=cpu", "--policy", "dual_batch"]
        for fast in ("gather", "ragged"):
            for row in told["rows"]:
                row["dispatch_us"] = 1.0 if row["exchange"] == fast else 1000.0
            table = self.write(json.dumps(told), f"{fast}.json")
            by = ["--set", f"execution.exchange={table}"]
            self.assertIn(f"exchange {fast}: auto by {table}, ", dovetail("check", *arguments[:-2], "--ranks", 2, *by).out)
        outcome = mpirun(2, "run", *arguments, *by, "--out", self.folder / "run")
        self.assertEqual(outcome.code, 0, str(outcome))
        with h5py.File(self.folder / "run" / "dual_batch" / "rank-00001.h5") as file:
            resolved = json.loads(file.attrs["resolved_execution"])
        self.assertEqual(resolved["exchange"], "ragged")
        self.assertRegex(resolved["exchange_reason"], r"^auto by .*, \d+ tokens: ragged \d+ us; gather \d+ us$")
        slow = json.loads(json.dumps(told))  # the faster dispatch, and rows that take long to arrange
        for row in slow["rows"]:
            row["dispatch_us"], row["arrange_us"] = (1.0, 5000.0) if row["exchange"] == "gather" else (1000.0, row["arrange_us"])
        all_calls = self.write(json.dumps(slow), "all_calls.json")
        self.assertIn("exchange ragged: auto by ", dovetail("check", *arguments[:-2], "--ranks", 2, "--set", f"execution.exchange={all_calls}").out)
        self.assert_auto_reads(told, arguments)
        table.write_text(json.dumps({**told, "device": "H100"}))
        refused = dovetail("check", *arguments[:-2], "--ranks", 2, *by)
        self.assertEqual(refused.code, 2, str(refused))
        self.assertIn("the table of exchanges is of another setting: device: measured with H100, this run has CPU", refused.err)
        table.write_text(json.dumps({**told, "ranks_per_host": 1}))
        refused = mpirun(2, "run", *arguments, *by, "--out", self.folder / "refused")
        self.assertEqual(refused.code, 2, str(refused))
        self.assertIn("ranks_per_host: measured with 1, this run has 2", refused.err)

    def assert_auto_reads(self, told, arguments):
        """`auto` chooses by its table, and by topology where the table is of another run; the record has both."""
        for row in told["rows"]:
            row["dispatch_us"] = 1.0 if row["exchange"] == "gather" else 1000.0
        table = self.write(json.dumps(told), "of_auto.json")
        by = ["--set", f"execution.exchange_table={table}"]
        check = ["check", *arguments[:-2], "--ranks", 2]
        self.assertIn(f"exchange gather: auto by {table}, ", dovetail(*check, *by).out)
        named = dovetail(*check, *by, "--set", "execution.exchange=ragged").out
        self.assertIn("; exchange ragged; ", named)
        self.assertNotIn("auto by", named)
        outcome = mpirun(2, "run", *arguments, *by, "--out", self.folder / "by_auto")
        self.assertEqual(outcome.code, 0, str(outcome))
        with h5py.File(self.folder / "by_auto" / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(json.loads(file.attrs["resolved_execution"])["exchange"], "gather")
            self.assertIn(f"exchange_table: {table}", file["config"][()].decode())
        table.write_text(json.dumps({**told, "device": "H100"}))
        self.assertRegex(dovetail(*check, *by).out, "exchange ragged: auto: on host ranks .*; not by the table: .*device: measured with H100, this run has CPU")
        table.write_text("{}")
        self.assertEqual(dovetail(*check, *by).code, 2)
        no_table = dovetail(*check, "--set", "execution.exchange_table=gather")
        self.assertEqual(no_table.code, 2)
        self.assertIn("execution.exchange_table: 'gather' is no table of times", no_table.err)

    def test_info_lists_the_keys(self):
        keys = {key["key"]: key for key in json.loads(dovetail("info", "--keys", "--format", "json").out)}
        self.assertEqual((keys["execution.iterations"]["values"], keys["execution.iterations"]["default"]), ("whole number from 1 to 1000000", "10"))
        self.assertEqual([keys[key]["in_policy"] for key in ("execution.dtype", "execution.graph_sizes")], [False, True])
        self.assertRegex(dovetail("info", "--keys").out, r"(?m)^execution.graph_sizes\n    values       auto or ")
        readme = (TOP / "experiments" / "README.md").read_text()
        self.assertIn(dovetail("info", "--keys", "--format", "markdown").out, readme)
        without_keys = dovetail("info", "--format", "markdown")
        self.assertEqual(without_keys.code, 2, str(without_keys))
        self.assertIn("allowed: table, json", without_keys.err)

    def test_check_shows_what_decides(self):
        told = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2).out
        self.assertRegex(told.splitlines()[0], r"^run: 2 ranks; cpu \(.+\); expert parallel 2 x data parallel 1; dtype float32; numerics fast; exchange ragged; ")
        self.assertIn("note: dtype is float32, and config.json says bfloat16: --set execution.dtype=bfloat16 takes that\n", told)
        self.assertIn("\nexchange ragged: auto: ", told)
        self.assertRegex(told.splitlines()[-1], "^not counted: other activations")
        same = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "execution.dtype=bfloat16").out
        self.assertNotIn("config.json", same)
        self.assertNotIn("routing is not recorded", told)
        self.assertIn("note: routing is not recorded: in bfloat16 routers choose otherwise at near ties", same)

    def test_check_says_which_requests_are_cut(self):
        report = json.loads(dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "workload.requests={lengths: [6, 10, 4]}",
                                     "--format", "json").out)
        of_rank = {policy["name"]: policy["requests_of_ubatches_by_rank"][0] for policy in report["policies"]}
        ids = [one["request"] for one in of_rank["sequential"][0]]
        self.assertEqual([(one["tokens"], one["cut"]) for one in of_rank["sequential"][0]], [(6, False), (10, False), (4, False)])
        self.assertEqual([[(one["request"], one["first_token"], one["tokens"], one["cut"]) for one in ubatch] for ubatch in of_rank["dual_batch"]],
                         [[(ids[0], 0, 6, False), (ids[1], 0, 4, True)], [(ids[1], 4, 6, True), (ids[2], 0, 4, False)]])

    def test_check_shows_what_auto_and_thresholds_decide(self):
        self.assertRegex(dovetail("check", "experiments/auto.yaml", "--ranks", 2).out,
                         r"(?m)^point \d+, policy auto: steps? \d.* runs? (dual_batch|sequential).*: the table says \d+\.\d+ ms with ubatches and \d+\.\d+ ms without")
        report = json.loads(dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--set", "policies.dual_batch.thresholds={prefill: 5000}",
                                     "--format", "json").out)
        steps = {policy["name"]: [(step["runs"], step["reason"]) for step in policy["steps"]] for policy in report["policies"]}
        self.assertEqual(steps, {"sequential": [("sequential", "none")], "dual_batch": [("sequential", "below_threshold")],
                                 "dual_inline": [("dual_batch", "none")]})

    def test_check_compares_the_memory_with_what_is_there(self):
        check = ["check", "experiments/gpu_decode.yaml", "--ranks", 2]
        fits = dovetail(*check, "--gpu-memory-gib", 80)
        self.assertIn("\nmemory of each GPU: 80.00 GiB (--gpu-memory-gib)\n", fits.out)
        self.assertRegex(fits.out, r"(?m)^policy dual_eager: what is counted fits, needs \d+\.\d\d of 80.00 GiB; \d+\.\d\d GiB are left for what is not; "
                         r"the smallest expert_parallel that fits is 1 \(\d+\.\d\d GiB\)$")
        self.assertNotIn("warning", fits.out)
        short = dovetail(*check, "--gpu-memory-gib", 0.001)
        self.assertEqual(short.code, 0, str(short))
        self.assertRegex(short.out, r"(?m)^warning: policy dual_eager: does not fit, needs .* and would not with expert_parallel up to \d+$")
        on_host = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--gpu-memory-gib", 80).out
        self.assertIn("note: --gpu-memory-gib is not used", on_host)
        self.assertRegex(on_host, r"(?m)^memory of all ranks together, on one host: \d+\.\d\d GiB \(.+\)$")
        self.assertRegex(on_host, r"(?m)^policy sequential: what is counted fits, needs ")
        sweep = dovetail("check", "experiments/quickstart.yaml", "--ranks", 2, "--device", "cuda", "--gpu-memory-gib", 0.001, "--set",
                         "sweep={workload.seed: [1, 2]}")
        self.assertEqual(sweep.code, 0, str(sweep))
        self.assertRegex(sweep.out, r"(?m)^warning: point 1, policy dual_batch: does not fit, ")
        self.assertEqual(dovetail(*check, "--gpu-memory-gib", 0).code, 2)

    @unittest.skipIf("built without CUDA" not in dovetail("info").out, "this build runs on GPUs")
    def test_check_says_how_to_give_the_memory_of_gpus_that_are_not_there(self):
        report = json.loads(dovetail("check", "experiments/gpu_decode.yaml", "--ranks", 2, "--format", "json").out)["memory_fit"]
        self.assertEqual((report["bytes"], report["policies"]), (None, []))
        self.assertIn("\nmemory of each GPU: not known here; --gpu-memory-gib N says what fits into N GiB\n",
                      dovetail("check", "experiments/gpu_decode.yaml", "--ranks", 2).out)

    def test_check_and_plan_know_gpus_that_are_not_there(self):
        for arguments in (["experiments/gpu_decode.yaml"], ["experiments/quickstart.yaml", "--device", "cuda", "--set", "execution.dtype=bfloat16"]):
            with self.subTest(arguments=arguments):
                outcome = dovetail("check", *arguments, "--ranks", 64)
                self.assertEqual(outcome.code, 0, str(outcome))
                self.assertRegex(outcome.out, r"^run: 64 ranks; cuda \(64 x ")
                self.assertIn("note: planned for more GPUs than this machine has: ", outcome.out)
        self.assertEqual(dovetail("plan", "experiments/gpu_decode.yaml", "--policy", "dual_eager").code, 0)

    @unittest.skipIf("built without CUDA" not in dovetail("info").out, "this build runs on GPUs")
    def test_a_build_without_cuda_plans_and_does_not_run_on_gpus(self):
        self.assertIn("note: this build has no CUDA", dovetail("check", "experiments/gpu_quick.yaml", "--ranks", 2).out)
        outcome = mpirun(2, "run", "experiments/gpu_quick.yaml", "--out", self.folder / "run")
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("cuda in a build without CUDA", outcome.err)

    def test_every_experiment_passes_the_check(self):
        for path in sorted((TOP / "experiments").glob("*.yaml")):
            with self.subTest(path=path.name):
                ranks = 4 if path.name == "uneven_ranks.yaml" else 2
                outcome = dovetail("check", path, "--ranks", ranks)
                self.assertEqual(outcome.code, 0, str(outcome))

    def test_compare_reports_a_run(self):
        run, _ = self.run_experiment(2, self.experiment(), "run")
        report = json.loads(dovetail("compare", run, "--baseline", "sequential", "--format", "json").out)
        names = [policy["name"] for policy in report["policies"]]
        self.assertEqual(sorted(names), sorted(["sequential", "shared_expert", "dual_batch", "dual_inline", "dual_gather", "dual_3"]))
        table = dovetail("compare", run)
        self.assertEqual(table.code, 0, str(table))

    def test_without_mpirun_a_run_has_one_rank(self):
        outcome = dovetail("run", self.experiment(ep=1), "--out", self.folder / "run")
        self.assertEqual(outcome.code, 0, str(outcome))


if __name__ == "__main__":
    unittest.main(verbosity=2)
