"""`work.json`: what the ranks of one try of a stage are told, and the folder they work in."""

import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import StageError
from pipeline.spec.load import Spec, Stage
from pipeline.spec.sweep import Sweep
from pipeline.store.artifacts import WORK_NAME, partial_dir, write_durably
from pipeline.store.digests import recorded_settings
from pipeline.store.markers import clear_markers


class Attempt(BaseModel):
    """One stage's task: everything that its ranks need to know, besides which rank they are."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    package: str
    """The package that holds the kinds of stage."""
    pipeline: str
    stage: str
    kind: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    """Input name -> stage; its artifact lies beside the working folder."""
    sweep: Sweep | None = None
    """The members that it aggregates_sweep."""
    work_digest: str
    """A working folder is resumed only by work of the same digest."""
    num_attempts: int = 1
    seconds_before: float = 0.0
    """Time that earlier tries spent in this folder."""


def prepare_working_dir(
    artifact_dir: Path, spec: Spec, stage: Stage, work_digest: str, is_fresh: bool
) -> Attempt:
    """Make the folder that a stage works in, or keep what an earlier try of the same work left.

    Args:
        artifact_dir: where the artifact will be.
        spec: the pipeline.
        stage: the stage to run.
        work_digest: digest of all that its result follows from.
        is_fresh: True starts from nothing even where an earlier try could be resumed.
    """
    working_dir = partial_dir(artifact_dir)
    earlier = read_earlier_attempt(artifact_dir)
    can_resume = earlier is not None and earlier.work_digest == work_digest and not is_fresh
    if not can_resume:
        if working_dir.exists():
            shutil.rmtree(working_dir)
        working_dir.mkdir()
    clear_markers(working_dir)
    work = Attempt(
        package=spec.package,
        pipeline=spec.name,
        stage=stage.name,
        kind=stage.kind,
        settings=recorded_settings(stage.settings),
        inputs=dict(stage.inputs),
        sweep=stage.sweep,
        work_digest=work_digest,
        num_attempts=earlier.num_attempts + 1 if earlier and can_resume else 1,
        seconds_before=earlier.seconds_before if earlier and can_resume else 0.0,
    )
    write_attempt(working_dir, work)
    return work


def write_attempt(working_dir: Path, work: Attempt) -> None:
    """Write `work.json`."""
    write_durably(working_dir / WORK_NAME, work.model_dump_json(indent=2) + "\n")


def read_attempt(working_dir: Path) -> Attempt:
    """Read `work.json`.

    Raises:
        StageError: it is missing or damaged.
    """
    path = working_dir / WORK_NAME
    try:
        return Attempt.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise StageError(
            f"{path} cannot be read ({error}); start the stage with `python -m pipeline run`"
        ) from None


def read_earlier_attempt(artifact_dir: Path) -> Attempt | None:
    """What an earlier try in the working folder was told; None where there is none to resume."""
    try:
        return read_attempt(partial_dir(artifact_dir))
    except StageError:
        return None
