"""How the ranks of a stage start inside a Slurm job: one srun, called by the one runner."""

import os
import re
import subprocess

from pipeline.errors import UserError

LAUNCHER_VARIABLE = "SUPNORM_LAUNCHER"
"""`srun` in a job script: ranks start on all nodes of the job instead of on this machine alone."""


def is_chosen() -> bool:
    """True when ranks are to be started by srun.

    Raises:
        UserError: they are, but this is no job of Slurm.
    """
    if os.environ.get(LAUNCHER_VARIABLE) != "srun":
        return False
    if "SLURM_JOB_ID" not in os.environ:
        raise UserError(f"{LAUNCHER_VARIABLE} is srun, but this is no Slurm job; unset it")
    return True


def is_restart() -> bool:
    """True in a job that Slurm has started before: it goes on, even where it is told to force."""
    return is_chosen() and os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def num_tasks() -> int:
    """How many ranks the job has room for: the tasks asked for, else one a GPU, else one a node."""
    given = os.environ.get("SLURM_NTASKS")
    return int(given) if given else _num_nodes() * int(os.environ.get("SLURM_GPUS_ON_NODE", "1"))


def srun_command(num_ranks: int) -> list[str]:
    """The words in front of a rank's own command; srun ends all ranks when one of them fails."""
    spread = [f"--nodes={min(num_ranks, _num_nodes())}", f"--ntasks={num_ranks}"]
    return ["srun", "--kill-on-bad-exit=1", "--input=none", *spread]


def srun_environment() -> dict[str, str]:
    """Where the ranks meet, and how many cores each has.

    The first rank runs on the first node of the job, which is named by its address, because the
    name of a node need not resolve.
    """
    cpus = os.environ.get("SLURM_CPUS_PER_TASK")
    return {
        "MASTER_ADDR": _first_node_address(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or cpus or "1",
        **({"SRUN_CPUS_PER_TASK": cpus} if cpus else {}),
    }


def preferred_port() -> int:
    """A port of the job's own, below those that systems hand out."""
    return 12000 + int(os.environ["SLURM_JOB_ID"]) % 20000


def _num_nodes() -> int:
    return int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))


def _first_node_address() -> str:
    node = _scontrol("hostnames", os.environ["SLURM_JOB_NODELIST"]).split()[0]
    address = re.search(r" NodeAddr=(\S+)", _scontrol("node", node, "--oneliner"))
    return address[1] if address else node


def _scontrol(*what: str) -> str:
    command = ["scontrol", "show", *what]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
