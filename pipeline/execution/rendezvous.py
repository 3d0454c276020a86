"""Ranks that srun, torchrun or the deepspeed launcher has started: the first leads, others follow.

Every rank runs the same command. The first one does what a lone run does: it plans, holds the
locks, commits. Before each stage it calls the others by a file in the run's folder; they start
their rank of it, and answer by a file each when that has returned. The call is touched every
second, so that a rank can tell it from one that an earlier launch has left: that is older than it.
"""

import json
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import StageError, UserError
from pipeline.execution.signals import RunnerStop
from pipeline.ranks import Ranks

CALL_NAME = ".call.json"
POLL_S = 0.1
TOUCH_S = 1.0
LOST_S = 600.0
"""A call that nobody touches for so long: its rank is gone. A large commit takes minutes."""


@dataclass(frozen=True)
class Assignment:
    """What the first rank asks the others to do."""

    launch: str
    """Which launch the ranks belong to."""
    number: int
    """Counted from 1."""
    working_dir: str | None
    """Of the stage to run; None: there is nothing more to do."""
    num_ranks: int
    port: int
    """Where the ranks of the stage meet, on the node of the first."""
    token: str
    """What a rank answers; no other call has it."""


class RankGroup:
    """The ranks of one launch, seen from one of them.

    Args:
        run_dir: `runs/<pipeline>`, on a file system that all ranks share.
        ranks: this process among the others.
    """

    def __init__(self, run_dir: Path, ranks: Ranks) -> None:
        self.ranks = ranks
        self._path, self._launch, self._number = run_dir / CALL_NAME, _launch_name(), 0
        self._last_look, self._token = 0.0, ""

    @classmethod
    def from_environment(cls, run_dir: Path) -> "RankGroup | None":
        """The rank_group that this process belongs to; None where it was started alone.

        Raises:
            UserError: the launcher's variables contradict each other, or say not where to meet.
        """
        ranks = Ranks.from_environment()
        if ranks.world_size == 1:
            return None
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise UserError(
                f"{ranks.world_size} ranks were started without {' and '.join(missing)}, so they "
                "cannot meet; start them as slurm/common.sh does, or by torchrun"
            )
        return cls(run_dir, ranks)

    def call(self, working_dir: Path | None, num_ranks: int) -> dict[str, str]:
        """Ask the others to run a stage, or to leave; returns this rank's environment for it."""
        self._number += 1
        place = str(working_dir) if working_dir else None
        self._token = uuid.uuid4().hex
        call = Assignment(self._launch, self._number, place, num_ranks, _port(), self._token)
        temporary = self._path.with_name(f"{CALL_NAME}.tmp")
        temporary.write_text(json.dumps(asdict(call)), encoding="utf-8")
        temporary.rename(self._path)
        return self.environment(call)

    def touch(self) -> bool:
        """Show the others that this rank still leads; call it often. Returns False."""
        if self._is_time():
            with suppress(OSError):
                os.utime(self._path)
        return False

    def wait_for_all(self, num_ranks: int, stop: RunnerStop) -> None:
        """For the first rank: return once every other has answered the call, or a stop is asked.

        Raises:
            StageError: a rank does not answer; the first rank itself has long returned.
        """
        deadline = time.monotonic() + LOST_S
        missing = set(range(1, num_ranks))
        while missing and not stop.requested:
            self.touch()
            missing = {rank for rank in missing if self._answer(rank) != self._token}
            if time.monotonic() > deadline:
                names = ", ".join(map(str, sorted(missing)))
                raise StageError(f"rank {names} did not return within {LOST_S:.0f} s of rank 0")
            time.sleep(POLL_S)

    def answer(self, call: Assignment) -> None:
        """For a rank that follows: say that it has done its share of a call."""
        temporary = self._answer_path(self.ranks.rank).with_suffix(".tmp")
        temporary.write_text(call.token, encoding="utf-8")
        temporary.rename(self._answer_path(self.ranks.rank))

    def is_over(self, call: Assignment) -> bool:
        """For a rank that follows: the first rank has given the stage up."""
        if not self._is_time():
            return False
        newest, _ = self._read()
        return newest is not None and newest.number > call.number

    def shut_down(self) -> None:
        """For the first rank: there is nothing more to do."""
        self.call(None, 0)

    def calls(self) -> Iterator[Assignment]:
        """For a rank that follows: each call that concerns it, until there is nothing more to do.

        Raises:
            StageError: the first rank is gone.
        """
        begun = self._file_clock()
        seen, last_news = begun, time.monotonic()
        while True:
            call, touched = self._read()
            if touched > seen:
                seen, last_news = touched, time.monotonic()
            if call and touched > begun and call.number > self._number:
                self._number = call.number
                if call.working_dir is None:
                    return
                if self.ranks.rank < call.num_ranks:
                    yield call
                    last_news = time.monotonic()
            elif time.monotonic() - last_news > LOST_S:
                raise StageError(f"rank {self.ranks.rank}: no sign of rank 0 for {LOST_S:.0f} s")
            time.sleep(POLL_S)

    def environment(self, call: Assignment) -> dict[str, str]:
        """What this rank's process is told for a call: torchrun's store serves one stage only."""
        if call.num_ranks == 1:
            return {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        return {
            "RANK": str(self.ranks.rank),
            "WORLD_SIZE": str(call.num_ranks),
            "LOCAL_RANK": str(self.ranks.local_rank),
            "LOCAL_WORLD_SIZE": str(min(self.ranks.local_world_size, call.num_ranks)),
            "MASTER_PORT": str(call.port),
            "TORCHELASTIC_USE_AGENT_STORE": "False",
        }

    def _is_time(self) -> bool:
        """True once a second: every look costs a round trip on a network file system."""
        now = time.monotonic()
        is_time = now - self._last_look >= TOUCH_S
        if is_time:
            self._last_look = now
        return is_time

    def _read(self) -> tuple[Assignment | None, int]:
        """The call that is there, if it is of this launch, and when it was last touched (ns)."""
        try:
            touched = self._path.stat().st_mtime_ns
            call = Assignment(**json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None, 0
        return (call if call.launch == self._launch else None), touched

    def _answer_path(self, rank: int) -> Path:
        return self._path.with_name(f".answer.{rank}")

    def _answer(self, rank: int) -> str:
        try:
            return self._answer_path(rank).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _file_clock(self) -> int:
        """The time by the clock that stamps the call: a file server's may differ from ours."""
        probe = self._path.with_name(f"{CALL_NAME}.{self.ranks.rank}")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        try:
            return probe.stat().st_mtime_ns
        finally:
            probe.unlink(missing_ok=True)


def _launch_name() -> str:
    """Tells launches apart that follow each other quickly, as a job and its requeue."""
    slurm = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    names = (*slurm, "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    return "/".join(os.environ.get(name, "") for name in names)


def _port() -> int:
    """The port that the launcher chose, or a free one where that is taken, as by torchrun."""
    for wanted in (int(os.environ["MASTER_PORT"]), 0):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", wanted))
            port: int = listener.getsockname()[1]
            return port
    raise AssertionError("port 0 can always be bound")
