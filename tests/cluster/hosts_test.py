#!/usr/bin/env python3
"""Dovetail on two hosts: one run, one folder, one clock; and a cable that is cut in the middle.

hosts_test.py [unittest arguments]; tests/mpi/cli.py has the environment.
"""
import subprocess
import time

import h5py

from cluster_case import TOP, ClusterCase, attribute, main
from cli import BIN
from two_hosts import TwoHosts, missing_programs


class Hosts(ClusterCase):
    def setUp(self):
        super().setUp()
        self.hosts = TwoHosts()
        self.addCleanup(self.hosts.stop)

    def start(self, path, *arguments, ranks_each=1):
        command = self.hosts.command(ranks_each, BIN, "run", path, "--out", self.out, *arguments)
        return subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_one_run_on_both(self):
        child = self.start(self.experiment(iterations=20), ranks_each=2)
        out, err = child.communicate(timeout=120)
        self.assertEqual(child.returncode, 0, out + err)
        self.assertIn("run: 4 ranks on 2 hosts;", out)
        self.assertIn("MPI, also between hosts", out)
        hosts = []
        for rank in range(4):
            with h5py.File(self.out / "dual_batch" / f"rank-{rank:05}.h5") as file:
                hosts.append(attribute(file, "host"))
                # One kernel, one clock: what the ranks estimate must be 0 within the bound that they state.
                self.assertLessEqual(abs(file["timing"].attrs["clock_offset_ns"]), file["timing"].attrs["clock_error_ns"])
                self.assertLess(file["timing"].attrs["clock_error_ns"], 5e6)
        self.assertEqual(hosts, ["host-a", "host-a", "host-b", "host-b"])
        self.assert_verified(self.out / "sequential", self.out / "dual_batch")
        self.assertEqual(self.hosts.processes(), [])

    def test_a_cut_cable_ends_every_rank_within_its_bound(self):
        child = self.start(self.experiment(iterations=200000), "--set", "execution.timeout_s=5")
        self.wait_for_steps()
        begin = time.monotonic()
        self.hosts.cut()
        while (left := self.hosts.processes("dovetail")) and time.monotonic() - begin < 60:
            time.sleep(0.2)
        seconds = time.monotonic() - begin
        child.kill()  # mpirun itself waits for its daemon on the other host, for minutes
        self.hosts.stop()
        err = child.communicate(timeout=20)[1]
        print(f"all ranks ended {seconds:.1f} s after the cut")
        self.assertEqual(left, [], err)
        self.assertLess(seconds, 5 + 5, err)  # timeout_s, and the end of a rank
        self.assertIn("not done within 5000 ms", err)
        self.assert_all_files_open()
        self.assertGreater(max(self.finished_steps(file) for file in self.out.glob("*/rank-00001.h5")), 3)


if __name__ == "__main__":
    main(missing_programs())
