"""One rank of a stage: `python -m pipeline.execution.worker WORKING_DIR`, started by the runner."""

import ctypes
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from pipeline.errors import (
    ExitCode,
    LostRank,
    StageError,
    StoppedOnRequest,
    SupnormError,
    disk_error,
)
from pipeline.execution.context import Context
from pipeline.execution.signals import RankStop
from pipeline.monitor.console import say_error
from pipeline.monitor.exporter import Watched, exporting
from pipeline.monitor.metrics import STAGE_PROGRESS, Metrics
from pipeline.monitor.progress_file import ProgressLine, write_progress
from pipeline.ranks import Ranks
from pipeline.spec.load import base_name, load_settings_class
from pipeline.spec.settings import StageSettings, nested_inputs
from pipeline.spec.validation import validate
from pipeline.store.attempt import Attempt, mark_done, mark_stopped, read_attempt

RUNNER_FIRST_S = 5.0
"""How long a rank that has lost another one keeps silent: the runner ends it sooner than that, and
says itself which rank died of what."""


def run_rank(working_dir: Path, stop: RankStop) -> None:
    """Run this rank's share of the stage that `attempt.json` describes; the first marks its end.

    Raises:
        SupnormError: the stage cannot go on; the message is for the user.
    """
    attempt = read_attempt(working_dir)
    settings = _read_settings(attempt)
    ranks, metrics = Ranks.from_environment(), Metrics()
    os.environ.update(ranks.variables)  # DeepSpeed reads them, and srun sets others

    def listener(pulse: ProgressLine) -> None:
        metrics.set(STAGE_PROGRESS, pulse.share)
        if ranks.is_first:
            write_progress(working_dir, pulse)

    context = Context(
        pipeline=attempt.pipeline,
        stage=attempt.stage,
        output_dir=working_dir,
        inputs={name: working_dir.parent / source for name, source in attempt.inputs.items()},
        sweep=attempt.sweep,
        ranks=ranks,
        metrics=metrics,
        listener=listener,
        stop=stop,
    )
    watched = Watched(attempt.pipeline, attempt.stage, ranks, attempt.num_attempts)
    with exporting(metrics, watched, working_dir.parents[1]):
        stage = importlib.import_module(f"{attempt.package}.{attempt.kind}.run")
        stage.run(context, settings)
    if ranks.is_first:
        mark_done(working_dir)


def main() -> int:
    """Run this rank and say how it ended: the exit codes of `pipeline.errors.ExitCode`."""
    _die_with_the_runner()
    stop = RankStop()
    working_dir = Path(sys.argv[1])
    try:
        stop.listen()
        run_rank(working_dir, stop)
    except (KeyboardInterrupt, StoppedOnRequest) as reason:
        return _stopped(working_dir, stop, str(reason) or "interrupted where it was")
    except LostRank as error:
        return _report_unless_told_before(error)
    except SupnormError as error:
        return _report(error)
    except OSError as error:
        trouble = disk_error(error, working_dir)
        if trouble is None:
            raise
        return _report(trouble)
    return ExitCode.OK


def _read_settings(attempt: Attempt) -> StageSettings:
    # Members of a sweep stand behind the names that a spec, and the settings' class, know.
    inputs = {base_name(name): base_name(source) for name, source in attempt.inputs.items()}
    settings = validate(
        load_settings_class(attempt.package, attempt.kind),
        {**attempt.settings, "inputs": nested_inputs(inputs)},
    )
    if isinstance(settings, list):
        raise StageError(f"{attempt.stage}: the code changed under a running stage: {settings[0]}")
    return settings


def _stopped(working_dir: Path, stop: RankStop, reason: str) -> int:
    """End as asked: with exit code 0 and a marker, unless another rank's failure was the cause."""
    if not stop.is_made:
        return ExitCode.INTERRUPTED
    if Ranks.from_environment().is_first:
        mark_stopped(working_dir, stop.signal_name, reason)
    return ExitCode.OK


def _report_unless_told_before(error: LostRank) -> int:
    try:
        time.sleep(RUNNER_FIRST_S)
    except KeyboardInterrupt:
        return error.exit_code
    return _report(error)


def _report(error: SupnormError) -> int:
    ranks = Ranks.from_environment()
    say_error(error, f"rank {ranks.rank}" if ranks.world_size > 1 else "")
    return error.exit_code


def _die_with_the_runner() -> None:
    """Let Linux kill this process when the runner is killed, so that no rank writes unwatched."""
    runner = os.environ.get("SUPNORM_RUNNER_PID")
    if runner is None or not sys.platform.startswith("linux"):
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != int(runner):
        sys.exit(ExitCode.INTERRUPTED)


def _end(code: int) -> None:
    """End at once: threads and exit handlers of a library must neither delay nor abort this rank.

    All that counts is on disk by now. A thread of gloo alive at the usual end of a process makes
    the C++ runtime abort it ("terminate called without an active exception").
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
        exit_code = ExitCode.BUG
    _end(exit_code)
