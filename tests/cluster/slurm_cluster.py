"""A Slurm cluster of one node for tests: munged, slurmctld and slurmd with keys, sockets, ports and folders of their own, as root, without a
service manager. It ends every process that it has started.
"""
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "munge", "slurmctld", "slurmd", "sbatch", "salloc", "srun", "squeue", "scancel", "scontrol")
CONFIGURATION = """
ClusterName=dovetail
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MpiDefault=none
KillWait=5
OverTimeLimit=0
InactiveLimit=0
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Gres=gpu:2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing_programs():
    """What a cluster needs and this machine lacks, as one text; empty = nothing."""
    lacks = [name for name in PROGRAMS if shutil.which(name) is None]
    return ", ".join(lacks + ([] if os.geteuid() == 0 else ["root"]))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def processes_with(text):
    """Ids of the processes whose environment or command line holds `text`; zombies have neither."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            content = (path / "environ").read_bytes() + b"\0" + (path / "cmdline").read_bytes()
        except OSError:
            continue
        if text.encode() in content and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


class SlurmCluster:
    """With 8 CPUs and two GPUs, whatever the machine has."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="dovetail-slurm-"))
        self.processes = []
        self.environment = {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        self.folder.chmod(0o755)  # munge wants no one else to write there
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        controller_port, node_port = free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(folder=self.folder, host=socket.gethostname().split(".")[0], controller_port=controller_port, node_port=node_port))
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # two GPUs, as far as Slurm looks
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket", f"--pid-file={self.folder}/munged.pid",
                     f"--seed-file={self.folder}/munged.seed", f"--log-file={self.folder}/munged.log")
        self._wait_for("munged's socket", lambda: (self.folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", socket.gethostname().split(".")[0])
        self._wait_for("an idle node", lambda: "idle" in self.call("sinfo", "--noheader", "--format=%T").stdout)

    def _daemon(self, name, *arguments):
        log = open(self.folder / f"{name}.out", "wb")
        self.processes.append(subprocess.Popen([shutil.which(name), *arguments], env=self.environment, stdout=log, stderr=log, cwd=self.folder))
        log.close()

    def _wait_for(self, what, condition, limit_s=30):
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                raise RuntimeError(f"no {what}:\n" + self.logs())
            time.sleep(0.2)

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in sorted(self.folder.glob("*.log")) + sorted(self.folder.glob("*.out")))

    def call(self, *command, limit_s=120, environment=None, cwd=None):
        return subprocess.run(list(map(str, command)), env={**self.environment, **(environment or {})}, capture_output=True, text=True, errors="replace",
                              timeout=limit_s, cwd=cwd)

    def is_over(self, job):
        """Whether no part of the job is waiting, running or ending."""
        return not self.call("squeue", "--noheader", f"--jobs={job}", "--states=PENDING,RUNNING,COMPLETING,CONFIGURING").stdout.strip()

    def exit_code(self, job):
        """Of the batch script of a job, or of one of an array (12_3), that has ended."""
        shown = self.call("scontrol", "show", "job", job).stdout
        return int(shown.split("ExitCode=")[1].split(":")[0])

    def wait_for_job(self, job, limit_s=180):
        deadline = time.monotonic() + limit_s
        while not self.is_over(job):
            if time.monotonic() > deadline:
                raise RuntimeError(f"job {job} does not end:\n" + self.call("squeue").stdout + self.logs())
            time.sleep(0.3)

    def stop(self):
        """Ends the jobs, the daemons, and whatever they have left; returns the ids that were left."""
        if self.processes:
            self.call("scancel", "--user=root")
            deadline = time.monotonic() + 15
            while self.call("squeue", "--noheader").stdout.strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        left = processes_with(str(self.folder))
        for process in left:
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
        return left
