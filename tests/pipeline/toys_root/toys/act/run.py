"""Each function is one way for a stage to behave."""

import errno
import os
import signal
import sys
import time
from pathlib import Path

from pipeline.errors import LostRank, StageError, StoppedOnRequest, UserError
from pipeline.execution.context import Context
from toys.act.config import Settings


def run(context: Context, settings: Settings) -> None:
    globals()[settings.what](context)
    if context.ranks.is_first:
        (context.output_dir / "done.txt").write_text(settings.what)


def succeed(context: Context) -> None:
    context.say("I succeed")


def show_surroundings(context: Context) -> None:
    names = (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "OMP_NUM_THREADS",
        "OMP_WAIT_POLICY",
    )
    line = " ".join(f"{name}={os.environ.get(name)}" for name in names)
    (context.output_dir / f"rank-{context.ranks.rank}.txt").write_text(line)


def user_error(context: Context) -> None:
    raise UserError("data/nothing: no such folder; run make setup")


def stage_error(context: Context) -> None:
    raise StageError("the loss is not finite at step 7")


def bug(context: Context) -> None:
    raise ZeroDivisionError("a slip of ours")


def exit_with_7(context: Context) -> None:
    os._exit(7)


def disk_full(context: Context) -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x" * 100_000)


def read_forbidden(context: Context) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", "/data/secret")


def sleep(context: Context) -> None:
    """Say that work has begun, then work for long."""
    (context.output_dir / f"begun-{context.ranks.rank}.txt").write_text(str(os.getpid()))
    time.sleep(60)


def sleep_deaf(context: Context) -> None:
    """As `sleep`, but no signal is answered: as in a collective without end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sleep(context)


def die_beside_sleepers(context: Context) -> None:
    """Rank 1 is killed while the others wait for it."""
    if context.ranks.rank == 1:
        wait_for_the_first(context)
        os.kill(os.getpid(), signal.SIGKILL)
    sleep_deaf(context)


def fail_beside_sleepers(context: Context) -> None:
    """Rank 1 gives up while the others wait for it."""
    if context.ranks.rank == 1:
        wait_for_the_first(context)
        raise StageError("rank 1 has had enough")
    sleep(context)


def wait_for_the_first(context: Context) -> None:
    while not (context.output_dir / "begun-0.txt").exists():
        time.sleep(0.01)


def leave_orphan(context: Context) -> None:
    """A child process outlives its rank, as loader processes may; it holds what the rank held."""
    if os.fork() == 0:
        os.setsid()
        time.sleep(3)
        os._exit(0)
    sleep(context)


def resume(context: Context) -> None:
    """Fail twice, leaving a mark each time; the third try finds both."""
    marks = context.output_dir / "marks.txt"
    with marks.open("a") as file:
        file.write("x")
    if len(marks.read_text()) < 3:
        raise StageError("not yet")


def tidy_up_on_stop(context: Context) -> None:
    try:
        sleep(context)
    finally:
        (context.output_dir / "tidied.txt").write_text("yes")


def stop_where_asked(context: Context) -> None:
    with context.stop.watched():
        (context.output_dir / f"begun-{context.ranks.rank}.txt").write_text(str(os.getpid()))
        while not context.stop.is_made:
            time.sleep(0.01)
    raise StoppedOnRequest("all is saved")


def lose_a_rank(context: Context) -> None:
    """Rank 1 is killed; the other one notices, and is quicker to say so than the launcher."""
    if context.ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    raise LostRank("another rank is gone")


def exit_quietly(context: Context) -> None:
    sys.exit(0)


def first_fails_beside_sleepers(context: Context) -> None:
    """Rank 0 gives up while the others wait for it."""
    if context.ranks.is_first:
        raise StageError("rank 0 has had enough")
    sleep(context)
