"""Two hosts on one machine for tests: network namespaces with an address and a host name each, joined by a cable. Needs root."""
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("ip", "unshare", "mpirun")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
AGENT = """#!/bin/sh
# mpirun's remote start: AGENT ADDRESS COMMAND...
shift
exec ip netns exec {namespace} unshare --uts sh -c 'hostname host-b; exec sh -c "$*"' sh "$@"
"""


def missing_programs():
    lacks = [name for name in PROGRAMS if shutil.which(name) is None]
    return ", ".join(lacks + ([] if os.geteuid() == 0 else ["root"]))


def call(*command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)


def name_of(process):
    """Of a running process; a zombie has none."""
    try:
        return Path(os.readlink(f"/proc/{process}/exe")).name
    except OSError:
        return None


class TwoHosts:
    """host-a, where mpirun runs, and host-b."""

    def __init__(self):
        self.names = [f"dovetail-{os.getpid()}-{host}" for host in "ab"]
        self.cables = [f"dvt{os.getpid() % 100000}{host}" for host in "ab"]
        self.folder = Path(tempfile.mkdtemp(prefix="dovetail-hosts-"))
        try:
            self._make()
        except BaseException:
            self.stop()
            raise

    def _make(self):
        for name in self.names:
            call("ip", "netns", "add", name)
        call("ip", "link", "add", self.cables[0], "type", "veth", "peer", "name", self.cables[1])
        for name, cable, address in zip(self.names, self.cables, ADDRESSES):
            call("ip", "link", "set", cable, "netns", name)
            call("ip", "-n", name, "address", "add", f"{address}/24", "dev", cable)
            call("ip", "-n", name, "link", "set", cable, "up")
            call("ip", "-n", name, "link", "set", "lo", "up")
        self.agent = self.folder / "agent"
        self.agent.write_text(AGENT.format(namespace=self.names[1]))
        self.agent.chmod(0o755)

    def command(self, ranks_each, *arguments):
        """The line that starts ranks on both hosts; the environment of tests/mpi/cli.py."""
        hosts = ",".join(f"{address}:{ranks_each}" for address in ADDRESSES)
        variables = [word for name in os.environ if name.startswith(("OMPI_MCA_", "OMP_", "DOVETAIL_")) for word in ("-x", name)]
        mpirun = ["mpirun", "--host", hosts, "--bind-to", "none", "--mca", "plm_rsh_agent", self.agent, "--mca", "btl_tcp_if_include", "10.213.7.0/24",
                  "--mca", "oob_tcp_if_include", "10.213.7.0/24", *variables, "-np", 2 * ranks_each, *arguments]
        return ["ip", "netns", "exec", self.names[0], "unshare", "--uts", "sh", "-c", 'hostname host-a; exec "$@"', "sh", *map(str, mpirun)]

    def cut(self):
        call("ip", "-n", self.names[1], "link", "set", self.cables[1], "down")

    def processes(self, program=""):
        """Ids of what runs on either host: all, or one program's."""
        found = [subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split() for name in self.names]
        return [int(process) for host in found for process in host if not program or name_of(process) == program]

    def stop(self):
        """Ends what runs there; returns the ids that were left."""
        left = self.processes()
        for process in left:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        return left
