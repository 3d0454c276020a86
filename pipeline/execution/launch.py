"""Starts the ranks of a stage on this machine, watches them, and leaves none behind."""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ExitCode, InterruptedRun, StageStopped
from pipeline.execution.rendezvous import RankGroup
from pipeline.execution.signals import RunnerStop, signals_blocked
from pipeline.store.provenance import num_cores

GRACE_AFTER_DEATH_S = 3.0
"""The others may be deep in a collective that waits for the dead rank; they cannot answer."""
GRACE_AFTER_REQUEST_S = 25.0
"""Time for a stage that is asked to stop to write a checkpoint; a batch system gives about 30 s."""
POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How the ranks of a stage ended."""

    num_ranks: int
    failed_rank: int | None = None
    """The rank that ended first with anything but exit code 0."""
    returncode: int = 0
    """Of that rank; negative: the number of the signal that killed it."""
    signal_name: str | None = None
    """Set when the user or the system asked the run to stop."""

    @property
    def is_ok(self) -> bool:
        """True when every rank has returned."""
        return self.failed_rank is None and self.signal_name is None

    @property
    def exit_code(self) -> int:
        """The exit code of the run, where a rank failed."""
        known = (ExitCode.OK, ExitCode.BUG, ExitCode.USER_ERROR, ExitCode.STAGE_FAILED)
        return self.returncode if self.returncode in known else ExitCode.STAGE_FAILED

    def __str__(self) -> str:
        if self.signal_name:
            return f"asked to stop by {self.signal_name}"
        rank = f"rank {self.failed_rank}" if self.num_ranks > 1 else "it"
        if self.returncode < 0:
            name = _signal_name(-self.returncode)
            guess = " (out of memory? see dmesg)" if name == "SIGKILL" else ""
            return f"{rank} was killed by {name}{guess}"
        if self.returncode == ExitCode.BUG:
            return f"{rank} failed by a fault in the code; the traceback is above"
        if self.returncode in (ExitCode.USER_ERROR, ExitCode.STAGE_FAILED):
            return f"{rank} could not go on; the reason is above"
        return f"{rank} ended with exit code {self.returncode}"


def run_ranks(
    working_dir: Path,
    num_ranks: int,
    stop: RunnerStop,
    lock_descriptor: int,
    rank_group: RankGroup | None = None,
) -> Ended:
    """Run a stage on `num_ranks` processes and wait for all that were started here.

    When one ends badly, or a stop is requested, the others are stopped within seconds.

    Args:
        working_dir: holds `work.json`.
        num_ranks: how many processes share the stage.
        stop: looked at while waiting.
        lock_descriptor: the stage's lock; the ranks hold it too, should this process be killed.
        rank_group: where a launcher has started all ranks: this process starts its own one only and
            calls the others. None: all ranks are started here.
    """
    if rank_group:
        environments = [rank_group.call(working_dir, num_ranks)]
    else:
        port = _free_port()
        environments = [rank_environment(rank, num_ranks, port) for rank in range(num_ranks)]
    is_over = rank_group.touch if rank_group else None
    ended = _run_processes(working_dir, environments, stop, (lock_descriptor,), is_over)
    if rank_group and ended.is_ok:
        rank_group.wait_for_all(num_ranks, stop)
        return replace(ended, num_ranks=num_ranks, signal_name=stop.requested)
    return ended


def follow(rank_group: RankGroup, stop: RunnerStop) -> None:
    """Run this rank of every stage that the first rank calls for.

    Raises:
        StageStopped: this rank ended badly; the launcher then ends the others.
        InterruptedRun: a stop was requested, and this rank has stopped.
    """
    for call in rank_group.calls():
        assert call.working_dir
        ended = _run_processes(
            Path(call.working_dir),
            [rank_group.environment(call)],
            stop,
            (),
            functools.partial(rank_group.is_over, call),
        )
        if ended.signal_name:
            is_calm = ended.signal_name not in ("SIGINT", "SIGHUP")
            code = ExitCode.OK if is_calm else ExitCode.INTERRUPTED
            raise InterruptedRun(f"rank {rank_group.ranks.rank}: {ended}", code)
        if not ended.is_ok:
            raise StageStopped(f"rank {rank_group.ranks.rank}: {ended}", ended.exit_code)
        rank_group.answer(call)


def _run_processes(
    working_dir: Path,
    environments: list[dict[str, str]],
    stop: RunnerStop,
    descriptors: tuple[int, ...],
    is_over: Callable[[], bool] | None,
) -> Ended:
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with signals_blocked():
            for environment in environments:
                processes.append(_start(working_dir, environment, descriptors))
        return _wait(processes, stop, is_over)
    finally:
        for process in processes:
            _kill(process)
        _clear_progress()


def rank_environment(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    """What torch.distributed and a rank itself read from the environment."""
    environment = {
        "RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    if num_ranks > 1 and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, num_cores() // num_ranks))
    return environment


def _start(
    working_dir: Path, environment: dict[str, str], descriptors: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    """Start one rank in a process group of its own: Ctrl-C reaches it through this process."""
    runner = {"SUPNORM_RUNNER_PID": str(os.getpid())}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.execution.worker", str(working_dir)],
        env={**os.environ, **environment, **runner},
        stdin=subprocess.DEVNULL,
        pass_fds=descriptors,
        process_group=0,
    )


def _wait(
    processes: list[subprocess.Popen[bytes]],
    stop: RunnerStop,
    is_over: Callable[[], bool] | None,
) -> Ended:
    while True:
        codes = [process.poll() for process in processes]
        failed = [rank for rank, code in enumerate(codes) if code]
        if stop.requested:
            _ask_to_stop(processes, signal.SIGTERM, GRACE_AFTER_REQUEST_S)
            return Ended(len(processes), signal_name=stop.requested)
        if failed:
            first = min(failed, key=lambda rank: _depth(codes[rank] or 0))
            _ask_to_stop(processes, signal.SIGINT, GRACE_AFTER_DEATH_S)
            return Ended(len(processes), first, codes[first] or 0)
        if all(code == 0 for code in codes):
            return Ended(len(processes))
        if is_over and is_over():
            return Ended(len(processes))
        time.sleep(POLL_S)


def _depth(code: int) -> int:
    """Cause before consequence: a lost peer shows as a traceback, exit code 1, in the others."""
    return 0 if code < 0 else 1 if code != ExitCode.BUG else 2


def _ask_to_stop(
    processes: list[subprocess.Popen[bytes]], number: signal.Signals, grace_s: float
) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
    deadline = time.monotonic() + grace_s
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a rank: itself, and every process that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _clear_progress() -> None:
    """A progress bar hides the cursor and leaves its line open; a killed rank cannot tidy up."""
    if sys.stdout.isatty():
        sys.stdout.write("\r\x1b[K\x1b[?25h")
        sys.stdout.flush()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
