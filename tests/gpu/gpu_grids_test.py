#!/usr/bin/env python3
"""Replicas on GPUs, and what a step may be made of in full graphs: two replicas of two ranks, whose weights come over the dp communicator; embeddings,
M-RoPE, stages of a pipeline, mixed, chunked and vetoed steps. All have the bits of eager steps, and grids those of one GPU.

gpu_grids_test.py [unittest arguments]; on one and two GPUs four ranks share the cards, as hosts (gpu_hosts_test.py). tests/mpi/gpu_texts_test.py runs the
same experiments on CPU ranks, without graphs.
"""
import shutil
import unittest

import numpy as np

from gpu_batch_invariant_test import WORKLOADS
from gpu_cases import BIN, GPUS, LIMIT_S, MPIRUN, RANKS, TINY, TOP, GpuTest, execute
from gpu_hosts_test import SLOW, OnHosts

EXPERIMENT = """
experiment: grid
model: %(model)s
parallel: {expert_parallel: %(ep)d}
workload: {%(workload)s, seed: 5}
execution: {device: cuda, dtype: bfloat16, numerics: batch_invariant, warmup: 1, iterations: 2, timeout_s: 30}
policies:
  - {name: sequential, exchange: gather}
  - {name: dual, schedule: dual_batch, ubatches: 2, exchange: ragged}
  - {name: full, schedule: sequential, exchange: gather, graph: full}
  - {name: dual_full, schedule: dual_batch, ubatches: 2, exchange: padded, graph: full}
verify: {baseline: sequential, mode: bitwise}
record: {outputs: [hidden, logits, layers, routing], timing: steps}
"""
POLICIES = ("sequential", "dual", "full", "dual_full")
CHECKPOINT = "{architecture: qwen3_moe, config: config.json, weights: {checkpoint: .}}"
WHOLE_CHECKPOINT = CHECKPOINT.replace(" config.json", " tests/fixtures/qwen3-moe-tiny/config.json").replace(" .}", " tests/fixtures/qwen3-moe-tiny}")
MROPE = "tests/fixtures/mrope-interleaved"
MROPE_MODEL = f"{{architecture: qwen3_moe, config: {MROPE}/config.json, weights: {{checkpoint: {MROPE}}}}}"
# Of what steps are made: model, workload, settings. Two variants: a replay gets inputs that were not captured.
STEPS = {
    "embeds": (TINY, "phase: prefill, requests: {count: 4, length: 24}, variants: 2, inputs: embeds", []),
    "embeds_decode": (TINY, "phase: decode, requests: {count: 6, context_length: 9}, steps: 2, variants: 2, context: random, inputs: embeds", []),
    "mrope": (MROPE_MODEL, "phase: prefill, requests: {count: 4, length: 24}, variants: 2, positions: mrope", []),
    "mrope_decode": (MROPE_MODEL, "phase: decode, requests: {count: 6, context_length: 9}, steps: 2, variants: 2, context: random, positions: mrope", []),
    "mixed": (TINY, "phase: mixed, requests: [{count: 4, length: 1, context_length: 19}, {lengths: [23, 9], context_lengths: [0, 12]}], context: random", []),
    "chunked": (TINY, "phase: prefill, requests: {count: 3, length: 11, context_length: 21}, steps: 2", []),
    "vetoed": (TINY, "phase: prefill, requests: {count: 4, length: 24}, variants: 2", [f"policies.{name}.thresholds={{prefill: 1000000}}" for name in ("dual", "dual_full")]),
}
# The first layers, which record their hidden states, and the others, which take them: of a context that is drawn, since none can be computed before them.
STAGES = ([0, 2], [2, 4])
STAGED = {"prefill": WORKLOADS["prefill"], "decode": lambda ranks: WORKLOADS["decode"](ranks) + ", context: random"}


def text_of(model, ep, workload):
    return EXPERIMENT % {"model": model, "ep": ep, "workload": workload}


def words(settings):
    return [word for setting in settings for word in ("--set", setting)]


def stage(index, first=None):
    """Settings of a stage; `first`: a policy's folder of the stage before."""
    layers = f"model.layers={STAGES[index]}"
    return [layers, "record.outputs=[hidden]"] if first is None else [layers, f"workload.inputs={{hidden: {first}}}", "record.outputs=[hidden]"]


def replica_folders(folder):
    """A checkpoint for the first replica; its configuration alone for the second one."""
    source = TOP / "tests/fixtures/qwen3-moe-tiny"
    folders = [folder / "first", folder / "second"]
    shutil.copytree(source, folders[0])
    folders[1].mkdir()
    for path in source.glob("*.json"):
        if "index" not in path.name:
            shutil.copy(path, folders[1])
    return folders


class Grids:
    """What holds of a grid of two replicas of two ranks, wherever its ranks are."""

    def check_bits(self, one, four):
        self.assertEqual([self.attributes(four / "sequential", name) for name in ("dp_rank", "ep_rank")], [["0", "0", "1", "1"], ["0", "1", "0", "1"]])
        for policy in POLICIES:
            self.verify(one / "sequential", four / policy, "bitwise")

    def check_digests(self, one, four):
        """A digest of all weights, which the ranks of each replica make of what they hold."""
        digest, = set(self.attributes(one / "sequential", "weights_digest"))
        self.assertEqual(self.attributes(four / "sequential", "weights_digest"), [digest] * 4)


class GpuReplicas(Grids, OnHosts):
    HOSTS = ("host-a", "host-a", "host-b", "host-b") if GPUS >= 2 else ("host-a", "host-b", "host-c", "host-d")

    def run_on_four(self, text, name, *arguments):
        return self.run_on(4, text, name, *arguments)[0] if GPUS >= 4 else self.run_on_hosts(self.HOSTS, text, name, *arguments, *SLOW)[0]

    def test_two_replicas_of_two_have_the_bits_of_one_gpu(self):
        for phase, workload in WORKLOADS.items():
            with self.subTest(phase=phase):
                four = self.run_on_four(text_of(TINY, 2, workload(4)), phase)
                one, _ = self.run_on(1, text_of(TINY, 1, workload(1)), f"{phase}-one", "--policy", "sequential")
                self.check_bits(one, four)
                self.check_digests(one, four)
                for policy, graph, ubatched in (("dual", "none", True), ("full", "full", False), ("dual_full", "full", True)):
                    self.assert_steps(four / policy, graph, ubatched)

    def test_a_replica_without_a_checkpoint_gets_its_weights_from_the_other(self):
        """The ranks of the second replica start in a folder without weights: they come over the dp communicator."""
        folders = replica_folders(self.folder)
        path = self.write(text_of(CHECKPOINT, 2, WORKLOADS["prefill"](4)), "checkpoint.yaml")
        four = self.folder / "four"
        given = [self.environment_of(host) if GPUS < 4 else [] for host in self.HOSTS]
        outcome = execute(replicas_command(folders, given, path, four, *SLOW), limit_s=2 * LIMIT_S)
        self.assertEqual(outcome.code, 0, str(outcome))
        one, _ = self.run_on(1, text_of(WHOLE_CHECKPOINT, 1, WORKLOADS["prefill"](1)), "one", "--policy", "sequential")
        self.check_digests(one, four)
        self.check_bits(one, four)
        self.assert_steps(four / "dual_full", "full", ubatched=True)


def replicas_command(folders, given, path, out, *arguments):
    """mpirun of four ranks, two in each folder; `given`: options of mpirun for each rank."""
    command = list(MPIRUN)
    for rank, options in enumerate(given):
        command += [":"] * (rank > 0) + ["-np", "1", "-wdir", str(folders[rank // 2]), *options, BIN, "run", str(path), "--out", str(out), *map(str, arguments)]
    return command


class GpuFullGraphs(GpuTest):
    def run_full(self, name, model, workload, settings=()):
        run, _ = self.run_on(RANKS, text_of(model, RANKS, workload), name, *words(settings))
        ubatched = name != "vetoed"
        for policy, graph, own in (("sequential", "none", False), ("dual", "none", ubatched), ("full", "full", False), ("dual_full", "full", ubatched)):
            self.assert_steps(run / policy, graph, own)
        return run

    def test_every_kind_of_step(self):
        for name, (model, workload, settings) in STEPS.items():
            with self.subTest(name):
                run = self.run_full(name, model, workload, settings)
                self.verify(run / "sequential", run / "dual_full", "bitwise")

    def test_stages_equal_the_whole(self):
        for phase, workload_of in STAGED.items():
            workload = workload_of(RANKS)
            whole = self.run_full(f"{phase}-whole", TINY, workload, ["record.outputs=[hidden]"])
            first = self.run_full(f"{phase}-first", TINY, workload, stage(0))
            for policy in POLICIES:
                with self.subTest(phase=phase, policy=policy):
                    second = self.run_full(f"{phase}-{policy}", TINY, workload, stage(1, first / policy))
                    for other in POLICIES:
                        assert_same_rows(self, whole / policy, second / other)


def assert_same_rows(test, baseline, policy):
    """Of runs of other layers, which `dovetail verify` refuses to compare: hidden states to the bit."""
    wanted, found = test.rows(baseline), test.rows(policy)
    test.assertEqual(wanted.keys(), found.keys())
    test.assertEqual([key for key, row in wanted.items() if not np.array_equal(row, found[key])], [], f"{baseline} {policy}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
