"""An attempt at a stage: the folder it works in, what its ranks are told, and how it ended.

attempt.json  what the ranks are told
DONE          the result is complete; it stays with the artifact
STOPPED       the stage was asked to stop and has; the same command goes on from where it was

Without either marker the attempt runs, or it has failed, or its machine is gone. Files say so
because exit codes can get lost between the ranks and whoever started them.
"""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, write_atomic
from pipeline.spec.load import Spec, Stage
from pipeline.spec.sweep import Sweep
from pipeline.store.artifacts import ATTEMPT_NAME, DONE_NAME, STOPPED_NAME, partial_dir
from pipeline.store.digests import recorded_settings


class Attempt(FrozenModel):
    """`attempt.json`: everything that a rank must know of its stage, besides which rank it is."""

    package: str
    """The package that holds the kinds of stage."""
    pipeline: str
    stage: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Input name -> stage, whose artifact lies beside the working folder."""
    sweep: Sweep | None = None
    """The members that it aggregates."""
    work_digest: str
    """A working folder is resumed only by work of the same digest."""
    num_attempts: int = 1
    seconds_before: float = 0.0
    """Time that earlier attempts spent in this folder."""


def prepare_working_dir(
    artifact_dir: Path, spec: Spec, stage: Stage, work_digest: str, is_fresh: bool
) -> Attempt:
    """Make the folder that a stage works in, or keep what an earlier attempt at it left.

    Args:
        artifact_dir: where the artifact will be.
        spec: the pipeline.
        stage: the stage to run.
        work_digest: digest of all that its result follows from.
        is_fresh: True starts from nothing even where an earlier attempt could be resumed.
    """
    working_dir = partial_dir(artifact_dir)
    earlier = None if is_fresh else read_earlier_attempt(artifact_dir)
    if earlier is None or earlier.work_digest != work_digest:
        earlier = None
        if working_dir.exists():
            shutil.rmtree(working_dir)
        working_dir.mkdir()
    clear_markers(working_dir)
    attempt = Attempt(
        package=spec.package,
        pipeline=spec.name,
        stage=stage.name,
        kind=stage.kind,
        settings=recorded_settings(stage.settings),
        inputs=dict(stage.inputs),
        sweep=stage.sweep,
        work_digest=work_digest,
        num_attempts=earlier.num_attempts + 1 if earlier else 1,
        seconds_before=earlier.seconds_before if earlier else 0.0,
    )
    write_attempt(working_dir, attempt)
    return attempt


def write_attempt(working_dir: Path, attempt: Attempt) -> None:
    """Write `attempt.json`."""
    text = attempt.model_dump_json(indent=2) + "\n"
    write_atomic(working_dir / ATTEMPT_NAME, text, durable=True)


def read_attempt(working_dir: Path) -> Attempt:
    """Read `attempt.json`.

    Raises:
        StageError: it is missing or damaged.
    """
    advice = "start the stage with `python -m pipeline run`"
    return read_json(working_dir / ATTEMPT_NAME, Attempt, advice)


def read_earlier_attempt(artifact_dir: Path) -> Attempt | None:
    """Read what an earlier attempt was told; None where there is none that could be resumed."""
    try:
        return read_attempt(partial_dir(artifact_dir))
    except StageError:
        return None


def clear_markers(working_dir: Path) -> None:
    """Forget how the last attempt ended: a new one begins."""
    for name in (DONE_NAME, STOPPED_NAME):
        (working_dir / name).unlink(missing_ok=True)


def mark_done(working_dir: Path) -> None:
    """Say that the result is complete."""
    _mark(working_dir / DONE_NAME)


def mark_stopped(working_dir: Path, signal_name: str | None, reason: str) -> None:
    """Say that the stage has stopped because `signal_name` asked it to."""
    _mark(working_dir / STOPPED_NAME, signal=signal_name, reason=reason)


def is_done(working_dir: Path) -> bool:
    """True when the result is complete."""
    return (working_dir / DONE_NAME).exists()


def is_stopped(working_dir: Path) -> bool:
    """True when the stage has stopped on request."""
    return (working_dir / STOPPED_NAME).exists()


def _mark(path: Path, **facts: str | None) -> None:
    line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts})
    write_atomic(path, f"{line}\n", durable=True)
