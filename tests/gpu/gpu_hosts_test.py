#!/usr/bin/env python3
"""More than one host, as far as one machine can show it. A rank is told another host's name (HOST_NAME, by LD_PRELOAD) and NCCL another NCCL_HOSTID: then
NCCL shares no memory and moves all rows through sockets, and two hosts of the same cards have twice as many GPUs.

gpu_hosts_test.py [unittest arguments]; DOVETAIL_HOST_NAME is the library of tests/support/host_name.cpp.
"""
import json
import os
import unittest

from gpu_batch_invariant_test import EAGER, EXPERIMENT, GRAPHS, SEQUENTIAL, WORKLOADS
from gpu_cases import BIN, GPUS, LIMIT_S, MPIRUN, TINY, GpuTest, execute

HOST_NAME = os.environ.get("DOVETAIL_HOST_NAME")  # of tests that start ranks on hosts
SOCKETS = {"NCCL_NET": "Socket", "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
# Ranks that share a card take turns on it, so steps are slow.
SLOW = ["--set", "execution.timeout_s=60"]


class OnHosts(GpuTest):
    @staticmethod
    def environment_of(host):
        """Options of mpirun for a rank of a host of that name."""
        variables = {"LD_PRELOAD": HOST_NAME, "DOVETAIL_TEST_HOST": host, "NCCL_HOSTID": host, **SOCKETS}
        return [word for variable in variables.items() for word in ("-x", "=".join(variable))]

    def run_on_hosts(self, hosts, text, name, *arguments, code=0):
        """One rank for each entry of `hosts`, which is its host's name. As run_on."""
        path = self.write(text, f"{name}.yaml") if "\n" in text else text
        command = list(MPIRUN)
        for index, host in enumerate(hosts):
            command += [":"] * (index > 0) + ["-np", "1", *self.environment_of(host), BIN, "run", str(path), "--out", str(self.folder / name), *map(str, arguments)]
        outcome = execute(command, limit_s=2 * LIMIT_S)
        self.assertEqual(outcome.code, code, f"{text}\n{arguments}\n{outcome}")
        return self.folder / name, outcome


class GpuTwoHosts(OnHosts):
    """A rank is the first of its host, so both have the same card."""

    HOSTS = ("host-a", "host-b")

    def test_the_quick_experiment(self):
        run, outcome = self.run_on_hosts(self.HOSTS, "experiments/gpu_quick.yaml", "quick", "--set", "policies.dual.exchange=auto")
        self.assertIn("2 ranks on 2 hosts", outcome.out)
        self.assertEqual(outcome.out.count("verdict verified"), 9, str(outcome))
        self.assertEqual(self.attributes(run / "plain_graph", "host"), list(self.HOSTS))
        for policy, graph, ubatched in (("plain_graph", "full", False), ("dual_graph", "full", True), ("dual_piecewise", "piecewise", True)):
            self.assert_steps(run / policy, graph, ubatched)
        for resolved in map(json.loads, self.attributes(run / "dual", "resolved_execution")):
            self.assertIn("because ranks 0 and 1 are on hosts host-a and host-b", resolved["exchange_reason"])
            self.assertNotIn(resolved["exchange"], ("symmetric", "copy_engine"))

    def test_a_stopped_host_is_noticed(self):
        fault = "fault={kind: hang, rank: 1, ubatch: 0, layer: 0, phase: attention}"
        _, outcome = self.run_on_hosts(self.HOSTS, "experiments/gpu_quick.yaml", "hang", "--policy", "dual", "--set", "execution.timeout_s=4", "--set",
                                       "verify.mode=none", "--set", fault, code=3)
        self.assertRegex(outcome.err, r"rank \d+, ubatch \d+, layer \d+, phase \w+: .*4000 ms")
        self.assertLess(outcome.seconds, 45)


class GpuSharedCards(OnHosts):
    """Grids of four ranks on one or two cards: the bits of `sequential` on one GPU. Only different hosts may have a card of one name."""

    HOSTS = ("host-a", "host-a", "host-b", "host-b") if GPUS >= 2 else ("host-a", "host-b", "host-c", "host-d")

    def fields(self, ranks, workload, policies):
        return {"model": TINY, "ranks": ranks, "workload": workload(ranks), "dtype": "bfloat16", "numerics": "batch_invariant", "policies": policies,
                "mode": "bitwise"}

    def test_a_grid_of_four_has_the_bits_of_one(self):
        for phase, workload in WORKLOADS.items():
            with self.subTest(phase=phase):
                many, outcome = self.run_on_hosts(self.HOSTS, EXPERIMENT % self.fields(len(self.HOSTS), workload, SEQUENTIAL + EAGER + GRAPHS), phase, *SLOW)
                self.assertIn(f"4 ranks on {len(set(self.HOSTS))} hosts", outcome.out)
                self.assertEqual(self.attributes(many / "sequential", "host"), list(self.HOSTS))
                one, _ = self.run_on(1, EXPERIMENT % self.fields(1, workload, SEQUENTIAL), f"{phase}-one")
                for policy in ("sequential", "dual_full"):
                    self.verify(one / "sequential", many / policy, "bitwise")

    def test_on_one_host_they_are_refused(self):
        hosts = ["host-a"] * (GPUS + 1)
        text = EXPERIMENT % self.fields(1, WORKLOADS["prefill"], SEQUENTIAL)
        _, outcome = self.run_on_hosts(hosts, text, "refused", code=2)
        self.assertRegex(outcome.err, rf"rank {GPUS} on host host-a sees")


if __name__ == "__main__":
    unittest.main(verbosity=2)
