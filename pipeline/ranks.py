"""Which rank of how many this process is, read from the launcher's environment."""

import os
import re
from dataclasses import dataclass

from pipeline.errors import UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""Set by our own launcher, by torchrun and by the deepspeed launcher."""

LOCAL_SIZE_NAMES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")
"""The second is the deepspeed launcher's."""


@dataclass(frozen=True)
class Ranks:
    """The place of this process among the processes that share a stage."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """True on the one rank that writes, reports and commits."""
        return self.rank == 0

    @property
    def variables(self) -> dict[str, str]:
        """The environment that `from_environment` reads this place from."""
        places = (self.rank, self.world_size, self.local_rank, self.local_world_size)
        names = (*NAMES, LOCAL_SIZE_NAMES[0])
        return {name: str(place) for name, place in zip(names, places, strict=True)}

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Read RANK and its like, else what srun has set; one lone rank where nothing is set.

        A batch script is no task of srun: Slurm's variables count only within a step.

        Raises:
            UserError: some but not all of RANK, WORLD_SIZE and LOCAL_RANK are set, or they are no
                whole numbers with rank below size.
        """
        missing = [name for name in NAMES if name not in os.environ]
        if len(missing) == len(NAMES):
            return _of_step() if "SLURM_STEP_ID" in os.environ else cls()
        if missing:
            raise UserError(
                f"the launcher set some rank variables but not {', '.join(missing)}; "
                "set all of RANK, WORLD_SIZE and LOCAL_RANK, or none"
            )
        rank, world_size, local_rank = (_whole_number(name) for name in NAMES)
        sizes = [name for name in LOCAL_SIZE_NAMES if name in os.environ]
        local_size = _whole_number(sizes[0]) if sizes else world_size
        if rank >= world_size or local_rank >= local_size:
            raise UserError(
                f"the launcher set RANK={rank} of WORLD_SIZE={world_size} and LOCAL_RANK="
                f"{local_rank} of LOCAL_WORLD_SIZE={local_size}; ranks count from 0 up to size - 1"
            )
        return cls(rank, world_size, local_rank, local_size)


def _of_step() -> Ranks:
    """The place in a step of srun."""
    names = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID")
    rank, world_size, local_rank, node = (_whole_number(name) for name in names)
    sizes = tasks_per_node(os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return Ranks(rank, world_size, local_rank, sizes[node] if node < len(sizes) else world_size)


def tasks_per_node(text: str) -> list[int]:
    """Slurm's `2(x3),1` as [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return [int(size) for size, times in found for _ in range(int(times or 1))]


def _whole_number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise UserError(f"the launcher set {name}={text!r}; a whole number from 0 up is needed")
    return int(text)
