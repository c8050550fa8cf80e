#!/usr/bin/env python3
"""What launch/run_local.sh asks of mpirun, and the environment that it gives: an mpirun of this test stands in its place and tells.

launch_test.py [unittest arguments]
"""
import os
import re
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import h5py

import cli
from cli import BIN, TOP, CliTest, dovetail, execute

MPIRUN = """#!/bin/sh
if [ "$1" = --version ]; then echo "mpirun (Open MPI) {version}"; exit; fi
echo "$@"
env
"""
ENDS = """
import os, sys, time
while True:
    time.sleep(1e-5)
    try:
        os.rmdir(sys.argv[1])
    except OSError:
        pass
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

    def test_runs_that_end_do_not_stop_one_that_starts(self):
        """Open MPI 4 removes its folder of a host and user at the end of a run, if it is empty: here that happens all the time."""
        self.write(f'#!/bin/sh\nexec {shutil.which(cli.MPIRUN[0])} -np 1 ls "$TMPDIR"\n', "mpirun").chmod(0o755)
        base = self.folder / "tmp"
        folder = f"ompi.{os.uname().nodename.split('.')[0]}.{os.getuid()}"
        base.mkdir()
        ends = subprocess.Popen([sys.executable, "-c", ENDS, str(base / folder)])
        try:
            for _ in range(20):
                outcome = execute([str(TOP / "launch/run_local.sh"), "1", "info"], environment={"PATH": f"{self.folder}:{os.environ['PATH']}", "TMPDIR": str(base)})
                self.assertEqual((outcome.code, outcome.out), (0, folder + "\n"), str(outcome))
        finally:
            ends.kill()
            ends.wait()

    def test_a_site_is_read_before_srun(self):
        srun = self.write('#!/bin/sh\necho "$SITE_SAYS" "$@"\n', "srun")
        srun.chmod(0o755)
        site = self.write('export SITE_SAYS="modules of $NOT_SET_ANYWHERE here"\n', "site.sh")
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(TOP), "DOVETAIL_SITE": str(site)}
        for mpi in ("pmix", "pmix_v4"):
            outcome = execute([str(TOP / "launch/run_slurm.sh"), "info"], environment={**environment, **({"DOVETAIL_SLURM_MPI": mpi} if mpi != "pmix" else {})})
            self.assertEqual(outcome.code, 0, str(outcome))
            self.assertEqual(outcome.out, f"modules of  here --mpi={mpi} --kill-on-bad-exit=1 --cpu-bind=none {BIN} info\n")

    def test_a_rank_that_is_stopped_at_its_start_does_not_keep_the_others(self):
        for stopped in (0, 1):
            with self.subTest(stopped=stopped):
                stop = f'[ "$OMPI_COMM_WORLD_RANK" != {stopped} ] || kill -STOP $$; exec "$@"'
                outcome = execute([*cli.MPIRUN, "-np", "2", "bash", "-c", stop, "bash", BIN, "run", "experiments/quickstart.yaml", "--out", str(self.folder / "run")],
                                  environment={"DOVETAIL_START_LIMIT_S": "4"})
                self.assertEqual(outcome.code, 3, str(outcome))
                self.assertLess(outcome.seconds, 4 + 10)  # libraries load first
                said = [line for line in outcome.err.splitlines() if line.startswith("dovetail")]
                self.assertEqual(len(said), 1, str(outcome))
                self.assertIn("the start of the ranks was not done in 4 s", said[0])

    def test_a_rank_among_many_waits_until_the_first_lets_it_go(self):
        (self.folder / "job").mkdir()
        many = str(64 * os.cpu_count())
        told = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": many, "PMIX_SERVER_TMPDIR": str(self.folder / "job"),
                "PMIX_NAMESPACE": "7"}
        with subprocess.Popen([BIN, "run", "--help"], env={**os.environ, **told}) as rank:
            try:
                with self.assertRaises(subprocess.TimeoutExpired):
                    rank.wait(4)
                ticks = Path(f"/proc/{rank.pid}/stat").read_text().split(")")[1].split()[11:13]
                self.assertLess(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), 0.15, "seconds of a core: no library is set up")
                (self.folder / "job/dovetail-go-ahead-7").touch()
                self.assertEqual(rank.wait(12), 0)
            finally:
                rank.kill()

    def test_a_start_limit_that_is_none_is_refused(self):
        outcome = execute([BIN, "run", "experiments/quickstart.yaml", "--out", str(self.folder / "run")], environment={"DOVETAIL_START_LIMIT_S": "soon"})
        self.assertEqual(outcome.code, 2, str(outcome))
        self.assertIn("DOVETAIL_START_LIMIT_S: 'soon'; allowed: whole seconds", outcome.err)

    def test_the_environment_is_told_without_secrets(self):
        outcome = execute([str(TOP / "launch/collect_environment.sh")],
                          environment={"MY_TOKEN": "sesame-4711", "SLURM_JWT": "sesame-4711", "NCCL_DEBUG": "WARN", "OMP_NUM_THREADS": "3"})
        self.assertEqual(outcome.code, 0, str(outcome))
        self.assertLess(outcome.seconds, 40)
        self.assertNotIn("sesame", outcome.out + outcome.err)
        for expected in ("OMP_NUM_THREADS=3", "NCCL_DEBUG=WARN", "torch_loaded|torch_compiled", "mpi_loaded", "hdf5_loaded", "open files", "Cpus_allowed_list", r"mpirun \(Open MPI\)",
                         "Architecture:", "current_clocksource|cpu MHz", "libmpi"):
            self.assertRegex(outcome.out, expected)
        empty = execute([str(TOP / "launch/collect_environment.sh")], environment={"DOVETAIL_BIN": "/nowhere"})
        self.assertEqual(empty.code, 0, str(empty))
        self.assertIn("/nowhere is not there", empty.out)

    def test_no_secret_goes_into_results_or_reports(self):
        """Both take the same variables of the environment."""
        secrets = {name: "sesame-4711" for name in ("SLURM_JWT", "MY_TOKEN", "NCCL_API_KEY", "OMPI_MCA_orte_precondition_transports", "DOVETAIL_PASSWORD", "CUDA_SECRET")}
        taken = {"SLURM_CPU_BIND": "quiet", "NCCL_DEBUG": "WARN", "MKL_CBWR": "COMPATIBLE", "UCX_TLS": "tcp", "DOVETAIL_START_LIMIT_S": "50"}
        outcome = dovetail("run", "experiments/quickstart.yaml", "--out", self.folder / "run", "--policy", "sequential", "--set", "parallel.expert_parallel=1",
                           environment={**secrets, **taken})
        self.assertEqual(outcome.code, 0, str(outcome))
        files = [path for path in (self.folder / "run").rglob("*") if path.is_file()]
        self.assertGreater(len(files), 3)
        self.assertEqual([path.name for path in files if b"sesame" in path.read_bytes()], [])
        with h5py.File(self.folder / "run/sequential/rank-00000.h5") as file:
            recorded = file.attrs["environment"].splitlines()
        report = execute([str(TOP / "launch/collect_environment.sh")], environment={**secrets, **taken, "DOVETAIL_BIN": "/nowhere"}).out
        self.assertNotIn("sesame", report)
        for name, value in taken.items():
            self.assertIn(f"{name}={value}", recorded)
            self.assertIn(f"\n{name}={value}\n", report)
        source = (TOP / "framework/record/run_info.cpp").read_text()
        script = (TOP / "launch/collect_environment.sh").read_text()
        for name, listed in (("kRecordedPrefixes", re.search(r"prefixes='(.*?)'", script)[1].split("|")),
                             ("kSecretWords", re.search(r"secrets='(.*?)'", script)[1].split("|")),
                             ("kRecordedVariables", re.search(r"names=\((.*?)\)", script, re.DOTALL)[1].split())):
            self.assertEqual(re.findall('"(.*?)"', re.search(name + r" = \{(.*?)\};", source, re.DOTALL)[1]), listed, name)


if __name__ == "__main__":
    unittest.main()
