"""One run at a time: a lock on a pipeline's folder that lives exactly as long as its processes."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import BusyError

LOCK_NAME = ".lock"
PATIENCE_S = 1.0
"""How long to wait for a lock: a look from `status`, or ranks that are just dying, free it soon."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as the holder itself wrote it down."""

    pid: int
    host: str
    start: str
    stage: str = ""

    @property
    def is_gone(self) -> bool:
        """True when the run itself has died and only processes that it started go on."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Lock:
    """A held lock; ranks inherit its descriptor, so that orphaned ranks of a killed run hold it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._start = datetime.now(UTC).isoformat(timespec="seconds")

    def write_holder(self, stage: str = "") -> None:
        """Write down who holds the lock, and which stage runs."""
        holder = Holder(os.getpid(), socket.gethostname(), self._start, stage)
        text = json.dumps(vars(holder)) + "\n"
        os.pwrite(self.descriptor, text.encode(), 0)
        os.ftruncate(self.descriptor, len(text.encode()))


@contextmanager
def hold_lock(run_dir: Path) -> Iterator[Lock]:
    """Hold the lock of a pipeline's folder.

    Raises:
        BusyError: another run holds it; the message names the holder.
    """
    descriptor = os.open(run_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _try_lock(descriptor, PATIENCE_S):
            raise BusyError(_busy_message(run_dir))
        lock = Lock(descriptor)
        lock.write_holder()
        yield lock
    finally:
        os.close(descriptor)


def current_holder(run_dir: Path) -> Holder | None:
    """Who holds the lock of a pipeline's folder now; None where nobody does."""
    try:
        descriptor = os.open(run_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor, 0, fcntl.LOCK_SH) else _read_holder(run_dir)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, patience_s: float, kind: int = fcntl.LOCK_EX) -> bool:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)


def _read_holder(run_dir: Path) -> Holder:
    try:
        return Holder(**json.loads((run_dir / LOCK_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder(pid=0, host="an unknown host", start="an unknown time")


def _busy_message(run_dir: Path) -> str:
    holder = _read_holder(run_dir)
    if holder.is_gone:
        return (
            f"{run_dir} is still in use: its run (process {holder.pid}) is gone, but ranks that it "
            "started go on; they end by themselves in a moment, or find them with "
            f'pgrep -f "pipeline.worker {run_dir}" and stop them'
        )
    stage = f", stage {holder.stage}" if holder.stage else ""
    return (
        f"{run_dir} is in use by process {holder.pid} on {holder.host} since {holder.start}"
        f"{stage}; wait for it, or stop it there with: kill {holder.pid}"
    )
