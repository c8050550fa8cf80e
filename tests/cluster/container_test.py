#!/usr/bin/env python3
"""launch/apptainer.def: the container is built, and two ranks of the host's mpirun run a verified experiment in it.

container_test.py [unittest arguments]; tests/mpi/cli.py has the environment. Skipped where there is no apptainer.
"""
import shutil
import subprocess

from cluster_case import TOP, ClusterCase, main


class Containers(ClusterCase):
    def test_two_ranks_run_in_the_container(self):
        image = self.folder / "dovetail.sif"
        built = subprocess.run(["apptainer", "build", str(image), "launch/apptainer.def"], cwd=TOP, capture_output=True, text=True, timeout=800, check=False)
        self.assertEqual(built.returncode, 0, built.stderr[-4000:])
        line = ["mpirun", "--oversubscribe", "-np", "2", "apptainer", "run", "--bind", str(self.folder), str(image), "run", str(self.experiment(iterations=5)),
                "--out", str(self.out)]
        run = subprocess.run(line, cwd=TOP, capture_output=True, text=True, timeout=90, check=False)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assert_verified(self.out / "sequential", self.out / "dual_batch")


if __name__ == "__main__":
    main("" if shutil.which("apptainer") else "apptainer")
