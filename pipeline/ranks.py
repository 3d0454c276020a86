"""Which rank of how many this process is, read from the launcher's environment."""

import os
from dataclasses import dataclass

from pipeline.errors import UserError


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

    @classmethod
    def from_environment(cls) -> "Ranks":
        """Read RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; one lone rank where none is set.

        Raises:
            UserError: some but not all of RANK, WORLD_SIZE and LOCAL_RANK are set, or they are no
                whole numbers with rank below size.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        missing = [name for name in names if name not in os.environ]
        if len(missing) == len(names):
            return cls()
        if missing:
            raise UserError(
                f"the launcher set some rank variables but not {', '.join(missing)}; "
                "set all of RANK, WORLD_SIZE and LOCAL_RANK, or none"
            )
        rank, world_size, local_rank = (_whole_number(name) for name in names)
        has_local_size = "LOCAL_WORLD_SIZE" in os.environ
        local_size = _whole_number("LOCAL_WORLD_SIZE") if has_local_size else world_size
        if rank >= world_size or local_rank >= local_size:
            raise UserError(
                f"the launcher set RANK={rank} of WORLD_SIZE={world_size} and LOCAL_RANK="
                f"{local_rank} of LOCAL_WORLD_SIZE={local_size}; ranks count from 0 up to size - 1"
            )
        return cls(rank, world_size, local_rank, local_size)


def _whole_number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise UserError(f"the launcher set {name}={text!r}; a whole number from 0 up is needed")
    return int(text)
