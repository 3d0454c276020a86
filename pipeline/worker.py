"""One rank of a stage: `python -m pipeline.worker WORKING_DIR`. A launcher starts it."""

import ctypes
import importlib
import os
import signal
import sys
import traceback
from pathlib import Path

from pipeline.complaints import validate
from pipeline.context import Context
from pipeline.errors import ExitCode, StageError, SupnormError, disk_error
from pipeline.exporter import Watched, exporting
from pipeline.metrics import STAGE_PROGRESS, Metrics
from pipeline.pulse import Pulse, write_pulse
from pipeline.ranks import Ranks
from pipeline.screen import say_error
from pipeline.settings import StageSettings
from pipeline.spec import load_settings_class
from pipeline.work import Work, read_work


def run_rank(working_dir: Path) -> None:
    """Run this rank's share of the work that `work.json` describes.

    Raises:
        SupnormError: the stage cannot go on; the message is for the user.
    """
    work = read_work(working_dir)
    settings = _read_settings(work)
    ranks, metrics = Ranks.from_environment(), Metrics()

    def listener(pulse: Pulse) -> None:
        metrics.set(STAGE_PROGRESS, pulse.share)
        if ranks.is_first:
            write_pulse(working_dir, pulse)

    context = Context(
        pipeline=work.pipeline,
        stage=work.stage,
        output_dir=working_dir,
        inputs={name: working_dir.parent / source for name, source in work.inputs.items()},
        ranks=ranks,
        metrics=metrics,
        listener=listener,
    )
    watched = Watched(work.pipeline, work.stage, ranks, work.num_tries)
    with exporting(metrics, watched, working_dir.parents[1]):
        stage = importlib.import_module(f"{work.package}.{work.kind}.run")
        stage.run(context, settings)


def main() -> int:
    """Run this rank and say how it ended: the exit codes of `pipeline.errors.ExitCode`."""
    _die_with_the_runner()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    working_dir = Path(sys.argv[1])
    try:
        run_rank(working_dir)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except SupnormError as error:
        return _report(error)
    except OSError as error:
        trouble = disk_error(error, working_dir)
        if trouble is None:
            raise
        return _report(trouble)
    return ExitCode.OK


def _read_settings(work: Work) -> StageSettings:
    settings = validate(
        load_settings_class(work.package, work.kind), {**work.settings, "inputs": work.inputs}
    )
    if isinstance(settings, list):
        raise StageError(f"{work.stage}: the code changed under a running stage: {settings[0]}")
    return settings


def _report(error: SupnormError) -> int:
    say_error(
        error, "" if os.environ.get("WORLD_SIZE", "1") == "1" else f"rank {os.environ['RANK']}"
    )
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
    """End at once: threads and exit handlers of a library must not hold up a failed rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    if code != ExitCode.OK:
        os._exit(code)


if __name__ == "__main__":
    try:
        exit_code = main()
    except Exception:
        traceback.print_exc()
        exit_code = ExitCode.BUG
    _end(exit_code)
