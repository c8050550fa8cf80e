#!/usr/bin/env python3
"""What launch/run_local.sh asks of mpirun, and the environment that it gives: an mpirun of this test stands in its place and tells.

launch_test.py [unittest arguments]
"""
import os
import unittest

from cli import TOP, CliTest, execute

MPIRUN = """#!/bin/sh
if [ "$1" = --version ]; then echo "mpirun (Open MPI) {version}"; exit; fi
echo "$@"
env
"""


class LaunchScripts(CliTest):
    def run_local(self, version):
        mpirun = self.write(MPIRUN.format(version=version), "mpirun")
        mpirun.chmod(0o755)
        outcome = execute(["env", f"PATH={self.folder}:{os.environ['PATH']}", str(TOP / "launch/run_local.sh"), "3", "info"])
        self.assertEqual(outcome.code, 0, str(outcome))
        words, *environment = outcome.out.splitlines()
        return words, dict(line.split("=", 1) for line in environment if "=" in line)

    def test_every_open_mpi_gets_options_that_it_knows(self):
        for version, quiet in (("4.1.4", "--quiet "), ("5.0.11", ""), ("10.0.0", "")):
            with self.subTest(version=version):
                words, _ = self.run_local(version)
                self.assertEqual(words, f"{quiet}--oversubscribe --bind-to none -np 3 {os.environ['DOVETAIL_BIN']} info")

    def test_ranks_and_tests_have_one_environment(self):
        _, environment = self.run_local("4.1.4")
        for name, value in (("OMPI_MCA_btl_vader_single_copy_mechanism", "none"), ("OMPI_MCA_smsc", "^cma"), ("OMPI_MCA_mpi_yield_when_idle", "1"),
                            ("NCCL_NVLS_ENABLE", "0"), ("NCCL_GRAPH_REGISTER", "0"), ("OMP_WAIT_POLICY", "passive")):
            self.assertEqual(environment.get(name), value, name)
            self.assertEqual(os.environ.get(name), value, f"{name} of this test")


if __name__ == "__main__":
    unittest.main()
