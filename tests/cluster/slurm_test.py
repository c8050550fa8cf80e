#!/usr/bin/env python3
"""Dovetail under a real Slurm: jobs of every kind, their ends, and a sweep as a job array.

slurm_test.py [unittest arguments]; tests/mpi/cli.py has the environment.
"""
import json
import os
import shutil
import time

import h5py

from cluster_case import CHECKPOINT, TOP, ClusterCase, attribute, main
from cli import BIN, dovetail
from slurm_cluster import SlurmCluster, missing_programs, processes_with

TASKS = ("--ntasks", "2", "--cpus-per-task", "2")
RUN_SLURM = TOP / "launch/run_slurm.sh"


class SlurmTest(ClusterCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = SlurmCluster()

    @classmethod
    def tearDownClass(cls):
        left = cls.cluster.stop()
        assert not left, f"processes were left: {left}"

    def setUp(self):
        super().setUp()
        self.log = self.folder / "job.log"

    def sbatch(self, *arguments, wait=True, options=TASKS):
        """The exit code of the job where it waits, else the job's number."""
        outcome = self.cluster.call("sbatch", "--parsable", *(["--wait"] if wait else []), f"--output={self.log}", *options, *arguments, cwd=TOP,
                                    environment={"DOVETAIL_BIN": BIN})
        if wait:
            return outcome.returncode
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        return outcome.stdout.strip()

    def told(self):
        return self.log.read_text() if self.log.exists() else "(no output)"

    def assert_no_ranks(self):
        deadline = time.monotonic() + 10
        while (left := processes_with(f"{self.folder}")) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.assertEqual(left, [])



class Jobs(SlurmTest):
    def assert_two_ranks(self):
        with h5py.File(self.out / "dual_batch" / "rank-00001.h5") as file:
            self.assertEqual(attribute(file, "world_size"), 2)
            self.assertIn("SLURM_JOB_ID=", attribute(file, "environment"))
        self.assert_verified(self.out / "sequential", self.out / "dual_batch")

    def test_sbatch(self):
        self.assertEqual(self.sbatch(RUN_SLURM, "run", self.experiment(), "--out", self.out), 0, self.told())
        self.assert_two_ranks()
        self.assertIn("+ srun --mpi=pmix", self.told())
        self.assertIn("run: 2 ranks on 1 host", self.told())

    def test_salloc_and_srun(self):
        outcome = self.cluster.call("salloc", *TASKS, "srun", "--mpi=pmix", BIN, "run", self.experiment(), "--out", self.out, cwd=TOP)
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)
        self.assert_two_ranks()

    def test_mpirun_in_a_job(self):
        line = f"mpirun --bind-to none {BIN} run {self.experiment()} --out {self.out}"
        self.assertEqual(self.sbatch("--wrap", f"source launch/env.sh; {line}"), 0, self.told())
        self.assert_two_ranks()

    def test_fewer_ranks_by_mpirun_than_tasks(self):
        line = f"mpirun --bind-to none -np 2 {BIN} run {self.experiment()} --out {self.out}"
        self.assertEqual(self.sbatch("--wrap", f"source launch/env.sh; {line}", options=("--ntasks", "4")), 0, self.told())
        self.assert_two_ranks()

    def test_srun_without_pmix_is_refused(self):
        outcome = self.cluster.call("salloc", *TASKS, "srun", "--mpi=none", BIN, "run", self.experiment(), "--out", self.out, cwd=TOP)
        self.assertEqual(outcome.returncode, 2, outcome.stdout + outcome.stderr)
        self.assertIn("Slurm has started 2 processes", outcome.stderr)
        self.assertEqual(outcome.stderr.count("Slurm has started"), 1)
        self.assertFalse(self.out.exists())

    def threads_of(self, export, cpus, tasks="1"):
        """Of the last rank of a job whose tasks ask for so many CPUs; the cluster binds none of them (task/none)."""
        out = self.folder / f"out-{tasks}-{cpus}-{len(export)}"
        arguments = () if tasks == "2" else ("--set", "parallel.expert_parallel=1")
        options = ("--ntasks", tasks, "--cpus-per-task", cpus)
        self.assertEqual(self.sbatch(f"--export={export}", RUN_SLURM, "run", self.experiment(), "--out", out, *arguments, options=options), 0, self.told())
        with h5py.File(out / "sequential" / f"rank-0000{int(tasks) - 1}.h5") as file:
            return attribute(file, "compute_threads"), attribute(file, "compute_threads_from")

    def test_a_task_has_the_gpu_that_slurm_gave_it(self):
        """Slurm believes in two GPUs, devices of other kinds; ranks on CPUs record what they were told. tests/unit/run has what GPU ranks make of it."""
        arguments = ("--set", "execution.device=cpu", "--set", "execution.iterations=1", "--out", self.out)
        self.assertEqual(self.sbatch(RUN_SLURM, "run", self.experiment(), *arguments, options=(*TASKS, "--gpus-per-task=1")), 0, self.told())
        given = []
        for rank in range(2):
            with h5py.File(self.out / "sequential" / f"rank-0000{rank}.h5") as file:
                given += [line for line in attribute(file, "environment").splitlines() if line.startswith("CUDA_VISIBLE_DEVICES=")]
        self.assertEqual(given, ["CUDA_VISIBLE_DEVICES=0", "CUDA_VISIBLE_DEVICES=1"])

    def test_threads_are_those_of_the_task(self):
        cpus = len(os.sched_getaffinity(0))
        kept = [name for name in os.environ if name.startswith(("OMPI_", "LD_LIBRARY"))]
        without = ",".join([*kept, "PATH", "HOME", "DOVETAIL_BIN"])  # no OMP_NUM_THREADS
        self.assertEqual(self.threads_of(without, "1"), (1, "SLURM_CPUS_PER_TASK") if cpus > 1 else (1, "affinity"))
        self.assertEqual(self.threads_of(without, "8"), (cpus, "affinity"), "no more than the machine has")
        self.assertEqual(self.threads_of("ALL,OMP_NUM_THREADS=3", "1", tasks="2"), (3, "OMP_NUM_THREADS"))


class JobEnds(SlurmTest):
    def test_wrong_input_is_the_exit_code_of_the_job(self):
        self.assertEqual(self.sbatch(RUN_SLURM, "run", self.experiment(), "--set", "workload.phase=nonsense", "--out", self.out), 2)
        self.assertEqual(self.told().count("found 'nonsense'"), 1, self.told())
        self.assertFalse(self.out.exists())

    def test_a_failure_is_the_exit_code_of_the_job(self):
        fault = "fault: {kind: exception, rank: 1, ubatch: 0, layer: 1, phase: experts, iteration: 1}\n"
        self.assertEqual(self.sbatch(RUN_SLURM, "run", self.experiment(fault), "--out", self.out), 3, self.told())
        self.assertIn("rank 1", self.told())
        self.assert_all_files_open()
        self.assert_no_ranks()

    def test_the_time_limit_stops_after_an_iteration(self):
        path = self.experiment(iterations=200000)
        code = self.sbatch("--time=1", "--signal=USR1@40", RUN_SLURM, "run", path, "--out", self.out)
        self.assertEqual(code, 5, self.told())
        self.assertIn("dual_batch", self.told())
        self.assert_all_files_open()
        self.assertGreater(self.most_steps(), 0)
        for path in self.first_files():
            with h5py.File(path) as file:
                self.assertEqual(attribute(file, "status"), "stopped")
        self.assert_no_ranks()

    def test_scancel(self):
        job = self.sbatch(RUN_SLURM, "run", self.experiment(iterations=200000), "--out", self.out, wait=False)
        self.wait_for_steps()
        begin = time.monotonic()
        self.cluster.call("scancel", job)
        self.cluster.wait_for_job(job, limit_s=20)
        self.assertLess(time.monotonic() - begin, 10)
        self.assert_all_files_open()
        self.assertGreater(self.most_steps(), 3)
        self.assert_no_ranks()


class Arrays(SlurmTest):
    def statuses(self):
        return [point["status"] for point in json.loads((self.out / "sweep.json").read_text())["points"]]

    def run_array(self, *arguments):
        """Exit code and output of each job of four."""
        self.log = self.folder / "job-%a.log"
        job = self.sbatch(*arguments, wait=False)
        self.cluster.wait_for_job(job)
        numbers = range(4)
        return [self.cluster.exit_code(f"{job}_{number}") for number in numbers], [(self.folder / f"job-{number}.log").read_text() for number in numbers]

    def test_a_sweep_as_a_job_array(self):
        other = self.folder / "checkpoint"
        shutil.copytree(CHECKPOINT, other)
        weights = other / "model.safetensors"
        weights.rename(other / "elsewhere")
        path = self.experiment(f"sweep:\n  model.weights: [{{checkpoint: {CHECKPOINT}}}, {{checkpoint: {other}}}]\n  workload.requests.count: [1, 2]\n")
        array = ("--array=0-3", RUN_SLURM, "run", path, "--out", self.out)
        codes, logs = self.run_array(*array)
        self.assertEqual(codes, [0, 0, 2, 2], "\n".join(logs))
        self.assertEqual(self.statuses(), ["complete", "complete", "incomplete", "incomplete"], "\n".join(logs))
        self.assertIn(str(other), logs[2])
        (other / "elsewhere").rename(weights)
        before = {file: file.stat().st_mtime_ns for file in self.out.glob("point-000[01]/*/rank-*.h5")}
        self.assertEqual(len(before), 8)
        codes, logs = self.run_array(*array)
        self.assertEqual(codes, [0] * 4, "\n".join(logs))
        self.assertEqual(self.statuses(), ["complete"] * 4)
        self.assertEqual({file: file.stat().st_mtime_ns for file in before}, before, "what is complete is not measured again")
        table = dovetail("compare", self.out)
        self.assertEqual(table.code, 0, str(table))
        sweep = json.loads((self.out / "sweep.json").read_text())
        self.assertEqual([[row["verdict"] for row in point["policies"]] for point in sweep["points"]], [["baseline", "verified"]] * 4)
        beyond = self.cluster.call("salloc", *TASKS, "srun", "--mpi=pmix", BIN, "run", path, "--out", self.out, "--point", "4", cwd=TOP)
        self.assertEqual(beyond.returncode, 2)
        self.assertIn("--point 4: the sweep has 4 points; allowed: 0 to 3", beyond.stderr)


if __name__ == "__main__":
    main(missing_programs())
