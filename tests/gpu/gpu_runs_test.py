#!/usr/bin/env python3
"""Whole runs on GPUs beside the matrix: against the CPU, other grids and other weights; many replays; failures; what is refused; the
experiments.

gpu_runs_test.py [unittest arguments]
"""
import itertools
import json
import re
import unittest

import h5py
import numpy as np

from gpu_cases import BIN, BUILT_WITH_CUDA, FP32_BOUND, GPUS, GRAPH_MODES, LIMIT_S, MPIRUN, RANKS, REACHING, TINY, TOP, GpuTest, dovetail, execute

CHECKED = """
experiment: checked
model: %(model)s
parallel: {expert_parallel: %(ep)d}
workload: {%(workload)s, seed: 9}
execution: {device: %(device)s, dtype: float32, warmup: 1, iterations: 2, exchange: ragged, timeout_s: 20}
policies:
  - {name: sequential}
  - {name: shared_expert}
  - {name: dual_gather, schedule: dual_batch, ubatches: 2, exchange: gather}
  - {name: dual_3, schedule: dual_batch, ubatches: 3, split: request}
verify: {baseline: sequential, mode: tolerance}
record: {outputs: [hidden, logits, routing], timing: steps}
"""
PREFILL = "phase: prefill, requests: {count: %d, length: 24}"
DECODE = "phase: decode, requests: {count: %d, context_length: 77}, steps: 2"
POLICIES = ("sequential", "shared_expert", "dual_gather", "dual_3")


def checked(device="cuda", ep=None, workload=PREFILL % 4, model=TINY):
    return CHECKED % {"model": model, "ep": ep or RANKS, "workload": workload, "device": device}


class GpuAgainstCpu(GpuTest):
    """float32 on the GPU is the checking path: it must equal the CPU's, and other grids', within the rule for float32."""

    def assert_close(self, baseline, policy):
        for tensor in self.verify(baseline, policy, "tolerance")["tensors"]:
            self.assertLessEqual(float(tensor["error"]), FP32_BOUND, str(tensor))

    def test_prefill_and_decode(self):
        for name, workload in (("prefill", PREFILL % 4), ("decode", DECODE % 4)):
            cpu, _ = self.run_on(RANKS, checked("cpu", workload=workload), f"cpu-{name}")
            gpu, _ = self.run_on(RANKS, checked(workload=workload), f"gpu-{name}", "--set", "policies.dual_3.exchange=padded")
            for policy in POLICIES:
                with self.subTest(workload=name, policy=policy):
                    self.assert_steps(gpu / policy, "none", ubatched=policy.startswith("dual"))
                    self.assert_close(cpu / policy, gpu / policy)

    def test_checkpoints(self):
        for name in ("qwen3-moe-tiny", "odd-heads-stacked", "tied-dense-sharded", "all-experts-half", "mrope-interleaved"):
            with self.subTest(checkpoint=name):
                folder = f"tests/fixtures/{name}"
                model = f"{{architecture: qwen3_moe, config: {folder}/config.json, weights: {{checkpoint: {folder}}}}}"
                workload = PREFILL % 3 + (", positions: mrope" if name.startswith("mrope") else "")
                arguments = ["--policy", "dual_gather"]  # and the baseline
                cpu, _ = self.run_on(1, checked("cpu", ep=1, workload=workload, model=model), f"cpu-{name}", *arguments)
                gpu, _ = self.run_on(1, checked(ep=1, workload=workload, model=model), f"gpu-{name}", *arguments)
                for policy in ("sequential", "dual_gather"):
                    self.assert_close(cpu / policy, gpu / policy)

    def test_other_weights_and_other_routing_are_noticed(self):
        arguments = ["--policy", "sequential"]
        right, _ = self.run_on(RANKS, checked(), "right", *arguments)
        for name, setting in (("weights", "model.weights.seed=43"), ("routing", "workload.routing=balanced")):
            wrong, _ = self.run_on(RANKS, checked(), name, *arguments, "--set", setting)
            self.verify(right / "sequential", wrong / "sequential", "tolerance", code=4)


class GpuGrids(GpuTest):
    NEEDED = 2

    def test_one_gpu_and_two_compute_the_same(self):
        one, _ = self.run_on(1, checked(ep=1, workload=PREFILL % 8), "one")
        for ep in (1, 2):
            two, _ = self.run_on(2, checked(ep=ep), f"two-{ep}")
            for policy in POLICIES:
                with self.subTest(ep=ep, policy=policy):
                    for tensor in self.verify(one / "sequential", two / policy, "tolerance")["tensors"]:
                        self.assertLessEqual(float(tensor["error"]), FP32_BOUND, str(tensor))

    def test_bfloat16_graphs_with_the_experts_of_another_grid(self):
        dtype = ["--set", "execution.dtype=bfloat16", "--policy", "dual_gather"]
        one, _ = self.run_on(1, checked(ep=1, workload=PREFILL % 8), "one", *dtype)
        replay = ["--set", f"workload.routing={{replay: {one / 'sequential'}}}", "--set", "policies.dual_gather.graph=full"]
        two, _ = self.run_on(2, checked(ep=2), "two", *dtype, *replay)
        self.assert_steps(two / "dual_gather", "full", ubatched=True)
        for policy in ("sequential", "dual_gather"):
            self.verify(one / "sequential", two / policy, "tolerance")


class GpuSoak(GpuTest):
    """10,000 replays of decode steps: the bits of the third, and not a byte more memory."""

    def test_many_replays(self):
        few, _ = self.run_on(RANKS, "experiments/gpu_replay.yaml", "few", "--set", "execution.iterations=3", "--set",
                             f"parallel.expert_parallel={RANKS}", "--policy", "dual_padded")
        many, _ = self.run_on(RANKS, "experiments/gpu_replay.yaml", "many", "--set", "policies.dual_padded.iterations=10000", "--set",
                              "execution.iterations=3", "--set", f"parallel.expert_parallel={RANKS}", "--policy", "dual_padded")
        self.assert_steps(many / "dual_padded", "full", ubatched=True)
        with h5py.File(self.files(many / "dual_padded")[0]) as file:
            self.assertEqual(file["timing/step_ns"].shape[0], 10000)
            self.assertTrue((file["timing/step_ns"][:] > 0).all())
        self.verify(few / "dual_padded", many / "dual_padded", "bitwise")
        for name in ("peak_allocated_bytes", "peak_reserved_bytes"):
            peaks = [[self.memory(path, name) for path in self.files(run / "dual_padded")] for run in (few, many)]
            self.assertEqual(*peaks, name)


class GpuMemoryOfGroups(GpuTest):
    """What the experts of all groups return is held until the last one's sums: more by what `check` counts."""
    NEEDED = 2
    MAY_SHARE = False
    TEXT = """
experiment: memory
model: %s
parallel: {expert_parallel: 2}
workload: {phase: prefill, requests: {count: 4, length: 1024}, seed: 9}
execution: {device: cuda, dtype: bfloat16, warmup: 1, iterations: 1, rounds: 1, exchange: symmetric, timeout_s: 20}
policies: [{name: cut, schedule: expert_groups, groups: %d}]
verify: {mode: none}
record: {outputs: [hidden], timing: steps}
"""

    def test_two_and_four_groups(self):
        peaks, counted = [], []
        for groups in (1, 2, 4):
            run, _ = self.run_on(2, self.TEXT % (TINY, groups), f"groups-{groups}")
            peaks.append(max(self.memory(path, "peak_allocated_bytes") for path in self.files(run / "cut")))
            check = dovetail("check", self.folder / f"groups-{groups}.yaml", "--ranks", 2, "--format", "json")
            counted.append(max(rank["experts' outputs (worst case)"] for rank in json.loads(check.out)["memory_bytes_by_rank"]))
        self.assertEqual(counted[1], 2 * counted[0])  # 4 of 8 experts can be all choices of a token, as 8 can
        for i in (1, 2):
            # The activations within a group's experts are no more than those of all.
            self.assertLessEqual(peaks[i] - peaks[0], counted[i] - counted[0] + (1 << 20), f"{peaks}, {counted}")
        self.assertGreaterEqual(peaks[1] - peaks[0], 0.9 * (counted[1] - counted[0]) - (1 << 20), f"{peaks}, {counted}")


class GpuGraphs(GpuTest):
    """Graphs are made for shapes, not for steps."""

    def captures(self, name, split, steps):
        text = f"""
experiment: growing
model: {TINY}
parallel: {{expert_parallel: {RANKS}}}
workload: {{phase: decode, requests: {{lognormal: {{count: 32, median: 200, sigma: 1.0, max_length: 2000}}}}, context: random, steps: {steps}, seed: 17}}
execution: {{device: cuda, dtype: bfloat16, warmup: 1, iterations: 2, exchange: padded}}
policies:
  - {{name: sequential}}
  - {{name: dual, schedule: dual_batch, ubatches: 2, split: {split}, graph: full}}
verify: {{baseline: sequential, mode: tolerance, routing: replay}}
record: {{outputs: [hidden, logits, routing], timing: steps}}
"""
        run, outcome = self.run_on(RANKS, text, name)
        self.assertIn("policy dual", outcome.out)
        self.assert_steps(run / "dual", "full", ubatched=True)
        with h5py.File(self.files(run / "dual")[0]) as file:
            resolved = json.loads(str(file.attrs["resolved_execution"]))
            captures = int(file["graph/captures"][()])
            self.assertLessEqual(captures, resolved["num_step_shapes"])
            return captures, resolved["graph_sizes"]

    def test_captures_do_not_grow_with_the_steps(self):
        # Contexts grow by a token a step; 64 steps pass several multiples of any rounding.
        self.assertEqual(self.captures("few", "token_midpoint", 8), (1, []))
        self.assertEqual(self.captures("many", "token_midpoint", 64), (1, []))

    def test_a_cut_that_moves_has_few_shapes(self):
        few, _ = self.captures("few", "balanced", 8)
        many, sizes = self.captures("many", "balanced", 64)
        self.assertLessEqual(many, few + 2, f"of 64 steps; sizes {sizes}")


class GpuPlacement(GpuTest):
    """A rank takes the GPU that its launcher gave it; two ranks on one card are an error; auto says why it takes the CPU."""

    TEXT = checked(ep=1).replace("device: cuda", "device: DEVICE")

    def start(self, device, visible, name, code=0):
        """One rank for each entry of `visible`, which sees these GPUs only."""
        path = self.write(self.TEXT.replace("DEVICE", device), f"{name}.yaml")
        command = list(MPIRUN)
        for index, gpus in enumerate(visible):
            command += [":"] * (index > 0) + ["-np", "1", "-x", f"CUDA_VISIBLE_DEVICES={gpus}", BIN, "run", str(path), "--out",
                                             str(self.folder / name), "--policy", "sequential"]
        outcome = execute(command, limit_s=LIMIT_S)
        self.assertEqual(outcome.code, code, str(outcome))
        return self.folder / name / "sequential", outcome

    def devices(self, policy):
        found = []
        for path in self.files(policy):
            with h5py.File(path) as file:
                found.append(str(file.attrs["device"]))
        return found

    def test_the_same_card_twice_names_both_ranks(self):
        _, outcome = self.start("cuda", ["0", "0"], "same", code=2)
        self.assertRegex(outcome.err, "rank 1 on host .* sees 1 GPU, which rank 0 holds")
        policy, outcome = self.start("auto", ["0", "0"], "auto")
        self.assertRegex(outcome.err, "auto takes the CPU, and GPUs stay idle: rank 1 on host .* sees 1 GPU, which rank 0 holds")
        self.assertEqual(self.devices(policy), ["cpu", "cpu"])

    def test_each_rank_sees_its_own(self):
        if GPUS < 2:
            self.skipTest("one GPU")
        for device in ("cuda", "auto"):
            policy, _ = self.start(device, ["1", "0"], f"own-{device}")
            for found in self.devices(policy):
                self.assertIn("cuda:0 ", found)
        policy, _ = self.start("cuda", ["0,1", "0,1"], "all")
        self.assertIn("cuda:0 ", self.devices(policy)[0])
        self.assertIn("cuda:1 ", self.devices(policy)[1])

    def sweep(self, ranks, name, axis, policies):
        text = f"""
experiment: placed
model: {TINY}
parallel: {{expert_parallel: {min(ranks, 2)}}}
workload: {{requests: {{count: 2, length: 24}}, seed: 9}}
execution: {{device: auto, warmup: 1, iterations: 2, timeout_s: 20}}
policies: {policies}
sweep: {{{axis}}}
"""
        run, _ = self.run_on(ranks, text, name)
        return run, json.loads((run / "sweep.json").read_text())

    def test_a_sweep_over_a_link_changes_the_device(self):
        run, sweep = self.sweep(RANKS, "links", "execution.link: [none, {latency_us: 5, gbytes_per_s: 5}, none]", "[{name: sequential}]")
        self.assertEqual([point["status"] for point in sweep["points"]], ["complete"] * 3)
        kinds = [self.devices(run / f"point-000{point}" / "sequential")[0].split(":")[0] for point in range(3)]
        self.assertEqual(kinds, ["cuda", "cpu", "cuda"])

    def test_the_table_of_step_times_is_of_the_device_that_ran(self):
        ranks = 2 if GPUS == 1 else 2 * min(GPUS, 2)  # more than GPUs
        if ranks <= GPUS:
            self.skipTest("a GPU for each rank")
        run, sweep = self.sweep(ranks, "more", "workload.seed: [1, 2]", "[{name: sequential}, {name: dual_batch}]")
        self.assertEqual(sweep["step_times"]["setting"]["device"], "cpu")
        self.assertEqual(set(self.devices(run / "point-0001" / "dual_batch")), {"cpu"})
        run, sweep = self.sweep(RANKS, "enough", "workload.seed: [1, 2]", "[{name: sequential}, {name: dual_batch}]")
        device = self.devices(run / "point-0001" / "dual_batch")[0]
        self.assertEqual(sweep["step_times"]["setting"]["device"], device.split(" ", 1)[1])

    def test_auto_runs_with_the_sms_of_its_table(self):
        policies = ("[{name: plain, schedule: sequential}, {name: dual, schedule: dual_batch, comm_sms: 4}%s]")
        run, sweep = self.sweep(RANKS, "table", "workload.seed: [1, 2]", policies % "")
        self.assertEqual({(point["policy"], point["comm_sms"]) for point in sweep["step_times"]["points"]}, {("plain", "all"), ("dual", 4)})
        run, _ = self.sweep(RANKS, "auto", "workload.seed: [3]", policies % f", {{name: auto, table: {run / 'sweep.json'}}}")
        with h5py.File(self.files(run / "point-0000" / "auto")[0]) as file:
            resolved = json.loads(str(file.attrs["resolved_execution"]))
        self.assertEqual((resolved["comm_sms"], resolved["plain_comm_sms"]), (4, "all"))


class GpuFailures(GpuTest):
    NEEDED = 2
    PLACE = r"rank \d+, ubatch \d+, layer \d+, phase \w+: "

    def fail(self, name, fault, *arguments, code=3, limit_s=45):
        text = checked(ep=2).replace("dtype: float32", "dtype: bfloat16").replace("timeout_s: 20", "timeout_s: 4")
        _, outcome = self.run_on(2, text, name, "--policy", "dual_gather", "--set", f"fault={fault}", *arguments, code=code)
        self.assertLess(outcome.seconds, limit_s)  # start, at most one policy, the bound, the end
        self.assertNotIn("verdict", outcome.out)
        return outcome

    def test_an_exception_is_named_once_and_ends_all_ranks(self):
        for phase, rank, ubatch in (("attention", 1, 1), ("dispatch", 0, 0), ("experts", 1, 0)):
            with self.subTest(phase=phase):
                outcome = self.fail(phase, f"{{kind: exception, rank: {rank}, ubatch: {ubatch}, layer: 2, phase: {phase}, iteration: 1}}")
                place = f"rank {rank}, ubatch {ubatch}, layer 2, phase {phase}: injected fault"
                self.assertEqual(len(re.findall(place, outcome.err)), 1, str(outcome))

    def test_an_exception_where_a_graph_is_made(self):
        # Iteration 0 of a policy with graphs: the ranks warm up and capture.
        outcome = self.fail("capture", "{kind: exception, rank: 1, ubatch: 1, layer: 1, phase: experts, iteration: 0}",
                            "--set", "policies.dual_gather.graph=full")
        self.assertRegex(outcome.err, "rank 1, ubatch 1, layer 1, phase experts: .*injected fault")

    def test_a_failed_capture_on_one_rank_costs_that_step_only(self):
        text = checked(ep=2).replace("dtype: float32", "dtype: bfloat16").replace("mode: tolerance", "mode: bitwise")
        for graph, exchange in (("full", "gather"), ("full", "padded"), *(("full", exchange) for exchange in REACHING), ("piecewise", "ragged")):
            with self.subTest(graph=graph, exchange=exchange):
                run, outcome = self.run_on(
                    2, text, f"capture-{graph}-{exchange}", "--policy", "dual_gather", "--set", f"execution.exchange={exchange}",
                    "--set", "policies.sequential.schedule=dual_batch", "--set", "policies.sequential.ubatches=2", "--set", "execution.warmup=2",
                    "--set", f"policies.dual_gather.exchange={exchange}", "--set", f"policies.dual_gather.graph={graph}",
                    "--set", "fault={kind: capture, rank: 1, ubatch: 1, layer: 1, phase: experts, iteration: 0}")
                self.assertEqual(outcome.err.count("could not be captured"), 1, outcome.err)
                self.assertRegex(outcome.err, "layer 1, phase experts: injected fault")
                for path in self.files(run / "dual_gather"):
                    with h5py.File(path) as file:
                        self.assertEqual([int(file[f"graph/{name}"][()]) for name in ("captures", "failures")], [1, 1])
                        self.assertEqual(file["timing/decision"][..., 1].tolist(), [[GRAPH_MODES.index(graph)]] * 2)

    def test_a_hanging_rank_is_noticed(self):
        for exchange in ("gather", *REACHING):
            with self.subTest(exchange=exchange):
                outcome = self.fail(f"hang-{exchange}", "{kind: hang, rank: 1, ubatch: 0, layer: 0, phase: attention, iteration: 1}",
                                    "--set", f"policies.dual_gather.exchange={exchange}")
                self.assertRegex(outcome.err, self.PLACE + ".*4000 ms")

    def test_a_killed_rank_ends_the_run(self):
        for exchange in ("gather", *REACHING):
            with self.subTest(exchange=exchange):
                self.fail(f"kill-{exchange}", "{kind: kill, rank: 1, ubatch: 0, layer: 1, phase: experts, iteration: 1}",
                          "--set", f"policies.dual_gather.exchange={exchange}", code=137)

    def test_an_overflow_of_fixed_blocks_is_an_error(self):
        for exchange, graph in itertools.product(("padded", *REACHING), ("none", "full")):
            text = checked(ep=2).replace("dtype: float32", "dtype: bfloat16")
            text = text.replace("exchange: ragged", f"exchange: {exchange}, padded_capacity: 0.1")
            with self.subTest(exchange=exchange, graph=graph):
                _, outcome = self.run_on(2, text, f"overflow-{exchange}-{graph}", "--policy", "sequential", "--set", "workload.routing={zipf: 1.5}",
                                         "--set", f"execution.graph={graph}", code=3)
                self.assertRegex(outcome.err, r"rank \d+.*layer \d+.*expert \d+")
                self.assertNotIn("verdict", outcome.out)


class GpuFiles(GpuTest):
    """What needs a build with CUDA and no GPU: what is refused, and the experiments."""
    NEEDED = 0

    @classmethod
    def setUpClass(cls):
        if not BUILT_WITH_CUDA:
            raise unittest.SkipTest("nothing to run: built without CUDA")

    def check(self, path, ranks, *settings):
        return dovetail("check", path, "--ranks", ranks, *(word for setting in settings for word in ("--set", setting)))

    def test_what_does_not_go_together_is_refused(self):
        path = self.write(checked(ep=2))
        self.assertEqual(self.check(path, 2).code, 0)
        for expected, settings in (
            ("graph full with dtype float32", ["execution.graph=full", "execution.exchange=gather"]),
            ("graph piecewise with dtype float32", ["execution.graph=piecewise"]),
            ("graph full with exchange ragged", ["execution.dtype=bfloat16", "policies.dual_3.graph=full"]),
            ("float16 on device cuda is not built yet", ["execution.dtype=float16"]),
            ("link", ["execution.link={latency_us: 20, gbytes_per_s: 1}"]),
            ("padded_capacity", ["execution.exchange=padded", "execution.padded_capacity=1.5"]),
            ("padded_capacity", ["execution.exchange=padded", "execution.padded_capacity=0"]),
            ("padded.* on device cpu", ["execution.device=cpu", "execution.exchange=padded"]),
            ("graph full on device cpu", ["execution.device=cpu", "execution.graph=full"]),
        ):
            with self.subTest(settings=settings):
                outcome = self.check(path, 2, *settings)
                self.assertEqual(outcome.code, 2, str(outcome))
                self.assertRegex(outcome.err, expected)

    def test_every_gpu_experiment_passes_the_check(self):
        for path in sorted((TOP / "experiments").glob("gpu_*.yaml")):
            for ranks in (1, 2, 4):
                with self.subTest(path=path.name, ranks=ranks):
                    outcome = self.check(path, ranks, f"parallel.expert_parallel={ranks}")
                    self.assertEqual(outcome.code, 0, str(outcome))


class GpuExperiments(GpuTest):
    def test_quick_and_its_figures(self):
        run, outcome = self.run_on(RANKS, "experiments/gpu_quick.yaml", "quick", "--set", f"parallel.expert_parallel={RANKS}")
        self.assertEqual(outcome.out.count("verdict verified"), 9, str(outcome))
        report = json.loads(dovetail("compare", run, "--format", "json").out)
        for policy in report["policies"]:
            with self.subTest(policy=policy["name"]):
                self.assertGreater(policy["metrics"]["profiled_ns"], 0)
                hidden = policy["metrics"]["hidden_share"]
                if RANKS > 1 or hidden is not None:  # in a graph of one rank nothing moves
                    self.assertTrue(0 <= hidden <= 1, hidden)


if __name__ == "__main__":
    unittest.main(verbosity=2)
