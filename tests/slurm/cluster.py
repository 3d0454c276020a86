"""A real Slurm cluster of two nodes on this machine, as an ordinary user or root may start it."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
SBIN = "/usr/sbin:/sbin"
"""Daemons live here on Debian; an ordinary user's path may not."""

SLURM_CONF = """
ClusterName=supnorm
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
InactiveLimit=0
MinJobAge=300
JobRequeue=1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_1} CPUs=4 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_2} CPUs=4 State=UNKNOWN
PartitionName=test Nodes=n1,n2 Default=YES MaxTime=60 OverSubscribe=FORCE:4 State=UP
"""


def missing_programs() -> list[str]:
    """What has to be installed before a cluster can be started."""
    return [name for name in PROGRAMS if not _which(name)]


class Cluster:
    """munged, slurmctld and two slurmd; everything they write lies in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        self.environment["PATH"] = f"{os.environ['PATH']}:{SBIN}"
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start everything and wait until both nodes take jobs."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        ports = _free_ports(3)
        text = SLURM_CONF.format(
            host=socket.gethostname().split(".")[0],
            user=pwd.getpwuid(os.getuid()).pw_name,
            folder=self.folder,
            controller_port=ports[0],
            port_1=ports[1],
            port_2=ports[2],
        )
        (self.folder / "slurm.conf").write_text(text)
        self._start_munge()
        self._start("slurmctld", "slurmctld", "-D")
        for node in ("n1", "n2"):
            self.start_node(node)
        self.wait_for(lambda: self._idle_nodes() == 2, 60, "both nodes are idle")

    def stop(self) -> None:
        """End every daemon, and what jobs have left running."""
        subprocess.run(["scancel", "--user", str(os.getuid())], env=self.environment, check=False)
        for name in ("n1", "n2", "slurmctld", "munged"):
            if name in self._daemons:
                _end(self._daemons[name])

    def start_node(self, node: str) -> None:
        """Start the slurmd of a node, anew after `kill_node`."""
        self._start(node, "slurmd", "-D", "-N", node)

    def kill_node(self, node: str) -> None:
        """Lose a node as by a power cut: its slurmd and every process under it, all at once."""
        daemon = self._daemons.pop(node)
        heads = [daemon.pid, *_steps_of(self.folder / f"slurmd.{node}.log")]
        for victim in [pid for head in heads for pid in (head, *_descendants(head))]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        daemon.wait()

    def output(self, *command: str) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, job_id: str) -> dict[str, str]:
        """The fields of `scontrol show job`."""
        words = self.output("scontrol", "show", "job", "--oneliner", job_id).split()
        return dict(word.partition("=")[::2] for word in words if "=" in word)

    def wait_for(self, is_so: Callable[[], object], timeout_s: float, what: str) -> None:
        """Return once something is so.

        Raises:
            AssertionError: it is not in time; the message ends with the daemons' last lines.
        """
        deadline = time.monotonic() + timeout_s
        while not is_so():
            assert time.monotonic() < deadline, f"not in {timeout_s} s: {what}\n{self._logs()}"
            time.sleep(0.2)

    def wait_for_state(self, job_id: str, *states: str, timeout_s: float = 60) -> None:
        """Return once a job is in one of the states."""
        self.wait_for(
            lambda: self.job(job_id)["JobState"] in states, timeout_s, f"job {job_id} {states}"
        )

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        places = {
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
            "key-file": "key",
        }
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in places.items()]
        self._start("munged", "munged", "--foreground", "--force", *options)
        self.wait_for((self.folder / "munge.socket").exists, 20, "munged listens")

    def _start(self, name: str, *command: str) -> None:
        program = _which(command[0])
        assert program
        with (self.folder / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _idle_nodes(self) -> int:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%T"],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split().count("idle")

    def _logs(self) -> str:
        paths = sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in paths)


def _which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ['PATH']}:{SBIN}")


def _free_ports(count: int) -> list[int]:
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _steps_of(log: Path) -> list[int]:
    """The slurmstepd of a node: orphans that write its log."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_step = process.joinpath("comm").read_text().startswith("slurmstepd")
            if is_step and any(fd.readlink() == log for fd in process.joinpath("fd").iterdir()):
                found.append(int(process.name))
    return found


def _descendants(pid: int) -> list[int]:
    with suppress(OSError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [found for child in children for found in (int(child), *_descendants(int(child)))]
    return []
