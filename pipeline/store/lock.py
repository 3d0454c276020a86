"""Locks: one run makes a stage at a time. A lock lives as long as the processes that hold it.

Whoever makes a stage holds its lock alone; whoever reads its artifact shares it. So the stages of
one pipeline may run in several jobs at once, and none is replaced while another reads it.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import BusyError
from pipeline.store.artifacts import partial_dir

PATIENCE_S = 1.0
"""How long to wait for a lock: a look from `status`, or ranks that are just dying, free it soon."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as the holder itself wrote it down."""

    pid: int
    host: str
    start: str

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


@contextmanager
def hold_locks(artifact_dir: Path, read: Iterable[Path] = ()) -> Iterator[int]:
    """Hold the lock of a stage that is made, and share the locks of those that it reads.

    Args:
        artifact_dir: `runs/<pipeline>/<stage>`; it need not exist.
        read: the artifacts that it is made from.

    Yields:
        The descriptor of its own lock; ranks inherit it, so that orphaned ranks of a killed run
        still hold the lock.

    Raises:
        BusyError: another run holds one of them; the message names the holder.
    """
    with ExitStack() as stack:
        for source in read:
            stack.enter_context(_held(source, fcntl.LOCK_SH))
        descriptor = stack.enter_context(_held(artifact_dir, fcntl.LOCK_EX))
        start = datetime.now(UTC).isoformat(timespec="seconds")
        holder = Holder(os.getpid(), socket.gethostname(), start)
        text = (json.dumps(vars(holder)) + "\n").encode()
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))
        try:
            yield descriptor
        finally:
            os.ftruncate(descriptor, 0)


def current_holder(artifact_dir: Path) -> Holder | None:
    """Who makes a stage now; None where nobody does."""
    try:
        descriptor = os.open(_lock_path(artifact_dir), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if _try_lock(descriptor, 0, fcntl.LOCK_SH) else _read_holder(artifact_dir)
    finally:
        os.close(descriptor)


def _lock_path(artifact_dir: Path) -> Path:
    return artifact_dir.with_name(f".{artifact_dir.name}.lock")


@contextmanager
def _held(artifact_dir: Path, kind: int) -> Iterator[int]:
    path = _lock_path(artifact_dir)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if not _try_lock(descriptor, PATIENCE_S, kind):
            raise BusyError(_busy_message(artifact_dir))
        yield descriptor
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


def _read_holder(artifact_dir: Path) -> Holder | None:
    """The maker of a stage; None where those who hold the lock only read."""
    try:
        return Holder(**json.loads(_lock_path(artifact_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _busy_message(artifact_dir: Path) -> str:
    holder = _read_holder(artifact_dir)
    if holder is None:
        return f"{artifact_dir} is being read by a run of another stage; wait for that"
    if holder.is_gone:
        return (
            f"{artifact_dir} is still in use: its run (process {holder.pid}) is gone, but ranks "
            "that it started go on; they end by themselves in a moment, or find them with "
            f'pgrep -f "pipeline.execution.worker {partial_dir(artifact_dir)}" and stop them'
        )
    return (
        f"{artifact_dir} is in use by process {holder.pid} on {holder.host} since {holder.start}; "
        f"wait for it, or stop it there with: kill {holder.pid}"
    )
