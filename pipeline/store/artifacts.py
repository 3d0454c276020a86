"""A stage's committed folder: `stage.json`, and the steps that let it appear whole or not at all.

runs/<pipeline>/<stage>/            committed
runs/<pipeline>/.<stage>.partial/   being written, or kept from an attempt that stopped
runs/<pipeline>/.<stage>.old/       the one before, for the moment between two renames
"""

import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, Field

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, sync, temporary_path, write_atomic
from pipeline.monitor.progress_file import PROGRESS_NAME
from pipeline.store.digests import FileDigest, file_digest
from pipeline.store.provenance import Machine

RECORD_NAME = "stage.json"
ATTEMPT_NAME = "attempt.json"
"""What the ranks of an attempt are told (`pipeline.store.attempt`)."""
DONE_NAME, STOPPED_NAME = "DONE", "STOPPED"
"""How the last attempt ended (`pipeline.store.attempt`)."""
RESUME_FOLDER = "checkpoints"
"""What a stage writes there serves only to resume it, and is no output."""


class InputRecord(FrozenModel):
    """An artifact that a stage read."""

    stage: str
    digest: str


class StageRecord(FrozenModel):
    """`stage.json`: how an artifact was made, and what is in it."""

    pipeline: str
    stage: str
    kind: str
    settings: dict[str, Any]
    """Every setting, defaults included, but the inputs, which have their own field."""
    inputs: dict[str, InputRecord]
    code: dict[str, str]
    """Digest of the sources of each package that decides the result."""
    work_digest: str
    """Digest of all that the result follows from: kind, settings, code, digests of the inputs."""
    digest: str
    """Digest of the result: names and bytes of its files."""
    outputs: dict[str, FileDigest]
    git_commit: str | None
    git_has_changes: bool
    """True when tracked files differed from the commit."""
    packages: dict[str, str]
    machine: Machine
    num_ranks: int
    seed: int | None
    start: datetime
    """Start of the attempt that finished (UTC)."""
    end: datetime
    seconds: float
    """Time that the stage ran, earlier attempts that it resumed included."""
    num_attempts: int = Field(validation_alias=AliasChoices("num_attempts", "num_tries"))
    """How often it was started; older records call it `num_tries`."""
    exit: int

    @property
    def num_bytes(self) -> int:
        """Bytes of the recorded files."""
        return sum(file.bytes for file in self.outputs.values())


def partial_dir(artifact_dir: Path) -> Path:
    """Where the stage whose artifact is `artifact_dir` does its work."""
    return artifact_dir.with_name(f".{artifact_dir.name}.partial")


def read_stage_record(artifact_dir: Path) -> StageRecord:
    """Read `stage.json` of a committed artifact.

    Raises:
        StageError: the file is missing or damaged.
    """
    advice = "run the pipeline again: it makes the stage anew"
    return read_json(artifact_dir / RECORD_NAME, StageRecord, advice)


def output_names(folder: Path) -> list[str]:
    """The files that make up a result: not the pipeline's own, nor those that serve to resume."""
    return sorted(path.relative_to(folder).as_posix() for path in _counted_files(folder))


def damage(artifact_dir: Path, record: StageRecord, verify_hashes: bool = False) -> str | None:
    """Say which recorded file is missing or altered.

    Args:
        artifact_dir: the committed folder.
        record: its `stage.json`.
        verify_hashes: False compares sizes, which takes no time; True compares sha256.
    """
    for name, recorded in record.outputs.items():
        path = artifact_dir / name
        if not path.is_file():
            return f"{name} is missing"
        size = path.stat().st_size
        if size != recorded.bytes:
            return f"{name} has {size:,} bytes instead of {recorded.bytes:,}"
        if verify_hashes and file_digest(path).sha256 != recorded.sha256:
            return f"{name} was altered: its sha256 is another"
    return None


def seal(artifact_dir: Path, record: StageRecord) -> None:
    """Complete the working folder: write its record, and wait until every byte is on disk."""
    partial = partial_dir(artifact_dir)
    write_atomic(partial / RECORD_NAME, record.model_dump_json(indent=2) + "\n", durable=True)
    for name in (ATTEMPT_NAME, PROGRESS_NAME):
        (partial / name).unlink(missing_ok=True)
    for path in (*partial.rglob("*"), partial):
        sync(path)


def is_sealed(artifact_dir: Path, work_digest: str) -> bool:
    """True when the working folder holds the complete result of this work, not yet published."""
    try:
        record = read_stage_record(partial_dir(artifact_dir))
    except StageError:
        return False
    is_whole = damage(partial_dir(artifact_dir), record) is None
    return is_whole and record.work_digest == work_digest


def publish(artifact_dir: Path) -> None:
    """Rename the sealed working folder to the artifact; a crash at any moment can be repaired.

    An older artifact steps aside, the new one takes its place, the older one is removed; `repair`
    finishes what a crash has left.
    """
    old = _old_dir(artifact_dir)
    if artifact_dir.exists():
        artifact_dir.rename(old)
    partial_dir(artifact_dir).rename(artifact_dir)
    sync(artifact_dir.parent)
    shutil.rmtree(old, ignore_errors=True)


def is_cut_off(artifact_dir: Path) -> bool:
    """True when a crash, or another run at this moment, stands between the renames of a commit."""
    return _old_dir(artifact_dir).exists()


def repair(artifact_dir: Path) -> str | None:
    """Finish a commit that a crash cut off between its renames.

    Returns:
        What was done, for the user; None where nothing was amiss.
    """
    partial, old = partial_dir(artifact_dir), _old_dir(artifact_dir)
    if not old.exists():
        return None
    if artifact_dir.exists():
        shutil.rmtree(old)
        return f"removed {old}, left by a run that was cut off"
    # The older artifact steps aside only once the new one is sealed.
    (partial if (partial / RECORD_NAME).exists() else old).rename(artifact_dir)
    sync(artifact_dir.parent)
    shutil.rmtree(old, ignore_errors=True)
    return f"finished the commit of {artifact_dir}, which a crash had cut off"


def _old_dir(artifact_dir: Path) -> Path:
    return artifact_dir.with_name(f".{artifact_dir.name}.old")


def _all_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _counted_files(folder: Path) -> Iterator[Path]:
    ours = {RECORD_NAME, ATTEMPT_NAME, PROGRESS_NAME, DONE_NAME, STOPPED_NAME}
    ours |= {temporary_path(Path(name)).name for name in ours}  # left by a kill during a write
    for path in folder.iterdir():
        if path.is_dir() and path.name != RESUME_FOLDER:
            yield from _all_files(path)
        elif path.is_file() and path.name not in ours:
            yield path
