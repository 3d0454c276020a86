"""Starts the ranks of a stage, watches them, and leaves none behind.

On one machine each rank is a process of ours. In a Slurm job one srun starts them on all nodes; it
forwards the request to stop, and ends the others when one fails.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ExitCode
from pipeline.execution import srun
from pipeline.execution.signals import RunnerStop, signals_blocked
from pipeline.ranks import Ranks
from pipeline.store.provenance import gpus, num_cores

GRACE_AFTER_DEATH_S = 3.0
"""The others may be deep in a collective that waits for the dead rank; they cannot answer."""
GRACE_AFTER_REQUEST_S = 25.0
"""Time for a stage that is asked to stop to write a checkpoint; a batch system gives about 30 s."""
POLL_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How the ranks of a stage ended."""

    failed: str | None = None
    """Who ended first with anything but exit code 0: `rank 1`, `it`."""
    returncode: int = 0
    """Its exit code; negative: the number of the signal that killed it."""
    signal_name: str | None = None
    """Set when the user or the system asked the run to stop."""

    @property
    def is_ok(self) -> bool:
        """True when every rank has returned."""
        return self.failed is None and self.signal_name is None

    @property
    def exit_code(self) -> int:
        """The exit code of the run, where a rank failed."""
        known = (ExitCode.OK, ExitCode.BUG, ExitCode.USER_ERROR, ExitCode.STAGE_FAILED)
        return self.returncode if self.returncode in known else ExitCode.STAGE_FAILED

    def __str__(self) -> str:
        if self.signal_name:
            return f"asked to stop by {self.signal_name}"
        if self.returncode < 0:
            name = _signal_name(-self.returncode)
            guess = " (out of memory? see dmesg)" if name == "SIGKILL" else ""
            return f"{self.failed} was killed by {name}{guess}"
        if self.returncode == ExitCode.BUG:
            return f"{self.failed} failed by a fault in the code; the traceback is above"
        if self.returncode in (ExitCode.USER_ERROR, ExitCode.STAGE_FAILED):
            return f"{self.failed} could not go on; the reason is above"
        return f"{self.failed} ended with exit code {self.returncode}"


def num_ranks_offered() -> int:
    """How many ranks this machine, or this job, has room for: one a GPU, else one."""
    return srun.num_tasks() if srun.is_chosen() else len(gpus()) or 1


def run_ranks(working_dir: Path, num_ranks: int, stop: RunnerStop, lock_descriptor: int) -> Ended:
    """Run a stage on `num_ranks` processes and wait for all of them.

    When one ends badly, or a stop is requested, the others are stopped within seconds.

    Args:
        working_dir: holds `attempt.json`.
        num_ranks: how many processes share the stage.
        stop: looked at while waiting.
        lock_descriptor: the stage's lock; what is started here holds it too, should this process
            be killed.
    """
    command = [sys.executable, "-m", "pipeline.execution.worker", str(working_dir)]
    if srun.is_chosen():
        command = [*srun.srun_command(num_ranks), *command]
        port = _free_port(srun.preferred_port())
        environments = [{**srun.srun_environment(), "MASTER_PORT": str(port)}]
        names = ["a rank"]
    else:
        port = _free_port()
        environments = [rank_environment(rank, num_ranks, port) for rank in range(num_ranks)]
        names = [f"rank {rank}" for rank in range(num_ranks)] if num_ranks > 1 else ["it"]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with signals_blocked():
            for environment in environments:
                processes.append(_start(command, environment, lock_descriptor))
        return _wait(dict(zip(names, processes, strict=True)), stop)
    finally:
        for process in processes:
            _kill(process)
        _clear_progress()


def rank_environment(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    """What torch.distributed, and a rank of this machine itself, read from the environment."""
    environment = {
        **Ranks(rank, num_ranks, rank, num_ranks).variables,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "SUPNORM_RUNNER_PID": str(os.getpid()),
    }
    if num_ranks > 1 and "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, num_cores() // num_ranks))
    return environment


def _start(
    command: list[str], environment: dict[str, str], lock_descriptor: int
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, so that Ctrl-C reaches it through this one.

    Threads of OpenMP that wait do so asleep: by default they spin, and take cores from other ranks.
    """
    return subprocess.Popen(
        command,
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **environment},
        stdin=subprocess.DEVNULL,
        pass_fds=(lock_descriptor,),
        process_group=0,
    )


def _wait(processes: dict[str, subprocess.Popen[bytes]], stop: RunnerStop) -> Ended:
    while True:
        codes = {name: _code(process) for name, process in processes.items()}
        failed = [name for name, code in codes.items() if code]
        if stop.requested:
            _ask_to_stop(processes, signal.SIGUSR1, GRACE_AFTER_REQUEST_S)
            return Ended(signal_name=stop.requested)
        if failed:
            first = min(failed, key=lambda name: _depth(codes[name] or 0))
            _ask_to_stop(processes, signal.SIGINT, GRACE_AFTER_DEATH_S)
            return Ended(first, codes[first] or 0)
        if all(code == 0 for code in codes.values()):
            return Ended()
        time.sleep(POLL_S)


def _code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code; where a signal has killed a rank, srun adds 128 to its number as shells do."""
    code = process.poll()
    return code if code is None or code <= 128 else 128 - code


def _depth(code: int) -> int:
    """Cause before consequence: a lost peer shows as a traceback, exit code 1, in the others."""
    return 0 if code < 0 else 1 if code != ExitCode.BUG else 2


def _ask_to_stop(
    processes: dict[str, subprocess.Popen[bytes]], number: signal.Signals, grace_s: float
) -> None:
    for process in processes.values():
        if process.poll() is None:
            process.send_signal(number)
    deadline = time.monotonic() + grace_s
    while any(process.poll() is None for process in processes.values()):
        if time.monotonic() > deadline:
            return
        time.sleep(POLL_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a rank: itself, and every process that it has started."""
    if process.poll() is None and srun.is_chosen():
        process.terminate()  # srun then kills its ranks, wherever they are
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_AFTER_DEATH_S)
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


def _free_port(preferred: int = 0) -> int:
    """The preferred port of this machine, or any free one where that is taken."""
    for wanted in (preferred, 0):
        with socket.socket() as listener, suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", wanted))
            port: int = listener.getsockname()[1]
            return port
    raise AssertionError("port 0 can always be bound")
