#!/usr/bin/env python3
"""`parallel.fabric`: NCCL's own log names the way that rows take between the GPUs of a host.

gpu_fabric_test.py [unittest arguments]
"""
import json
import re
import unittest

from gpu_cases import GpuTest, dovetail, mpirun

LOG = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,GRAPH,P2P,SHM,NET,ENV"}
WAYS = {"nvlink": "P2P", "shared_memory": "SHM", "socket": "NET/Socket"}


class GpuFabric(GpuTest):
    NEEDED = 2
    MAY_SHARE = False

    def run_over(self, fabric, *arguments, code=0, **environment):
        outcome = mpirun(2, "run", "experiments/gpu_quick.yaml", "--out", self.folder / f"{fabric}-{self.id()}", "--set", f"parallel.fabric={fabric}",
                         "--policy", "plain", "--policy", "dual_graph", *arguments, limit_s=120, environment={**LOG, **environment})
        self.assertEqual(outcome.code, code, str(outcome))
        return outcome

    def test_each_takes_its_own_way_and_verifies(self):
        for fabric, way in WAYS.items():
            with self.subTest(fabric=fabric):
                outcome = self.run_over(fabric)
                self.assertIn("policy dual_graph", outcome.out)
                self.assertIn("verdict verified", outcome.out)
                self.assertIn(f"fabric {fabric}", outcome.out)
                ways = set(re.findall(r"Channel \S+ : \d\S* -> \d\S* (?:\[\w+\] )?via (P2P|SHM|NET/Socket|NET)", outcome.out + outcome.err))
                self.assertEqual(ways, {way}, "the twin: the other fabrics say otherwise")

    def test_auto_shares_no_memory_where_the_fabric_is_slow(self):
        said = self.run_over("shared_memory", "--set", "execution.exchange=auto", "--set", "policies.dual_graph.exchange=auto").out
        run = re.search(r"^results (.*)$", said, re.M)[1]
        checked = dovetail("check", f"{run}/experiment.yaml", "--ranks", "2", "--format", "json")
        self.assertEqual(checked.code, 0, str(checked))
        reasons = {policy["exchange_reason"] for policy in json.loads(checked.out)["policies"]}
        self.assertTrue(all("not symmetric, because parallel.fabric is shared_memory" in reason for reason in reasons), reasons)

    def test_what_does_not_go_together_is_refused(self):
        self.assertIn("parallel.fabric: nvlink needs NCCL_P2P_DISABLE=0, and the environment has NCCL_P2P_DISABLE=1",
                      self.run_over("nvlink", code=2, NCCL_P2P_DISABLE="1").err)
        self.assertIn("needs GPUs that reach each other's memory", self.run_over("socket", "--set", "execution.exchange=symmetric", code=2).err)


if __name__ == "__main__":
    unittest.main(verbosity=2)
