"""Checkpoints that are whole or absent: what an interrupted run goes on from.

checkpoints/step-00001234/   state.safetensors, and checkpoint.json with the step and its digest
checkpoints/latest           the name of the newest one: it has moved where a run made progress
checkpoints/best             the name of the one that did best in validation

A folder is written beside and renamed once its bytes are on the disk, and so is a name. No pickle,
so reading one runs no code.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from torch import Tensor

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, sync, write_atomic

FOLDER_NAME = "checkpoints"
STATE_NAME = "state.safetensors"
RECORD_NAME = "checkpoint.json"
LATEST_NAME, BEST_NAME = "latest", "best"


@dataclass(frozen=True)
class Checkpoint:
    """A training state after `step` steps."""

    step: int
    state: dict[str, Tensor]


class _Record(FrozenModel):
    """Contents of checkpoint.json."""

    format_version: int = 1
    step: int
    state_sha256: str


def save_checkpoint(output_dir: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Commit a checkpoint, then drop all but the newest `keep` and the best.

    Args:
        output_dir: the stage's working folder.
        checkpoint: its tensors may be on any device.
        keep: at least 1.

    Raises:
        StageError: the disk is full or the folder cannot be written.
    """
    folder = _folder(output_dir, checkpoint.step)
    partial = folder.with_name(f".{folder.name}.partial")
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.state.items()}
    state = safetensors.torch.save(tensors)
    record = _Record(step=checkpoint.step, state_sha256=hashlib.sha256(state).hexdigest())
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_atomic(partial / STATE_NAME, state, durable=True)
        write_atomic(partial / RECORD_NAME, record.model_dump_json(), durable=True)
        # In the way can only be a damaged one that the run did not resume from.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        sync(folder.parent)
        write_atomic(folder.parent / LATEST_NAME, f"{folder.name}\n", durable=True)
    except OSError as error:
        raise StageError(
            f"cannot write checkpoint {folder}: {error.strerror}; make room or mend the folder, "
            "then run the same command again: it goes on from the checkpoint before"
        ) from error
    _drop_old(output_dir, checkpoint.step, keep)


def name_best(output_dir: Path, step: int) -> None:
    """Let `best` name the committed checkpoint after `step` steps, which is kept from now on."""
    folder = _folder(output_dir, step)
    if folder.exists():
        write_atomic(folder.parent / BEST_NAME, f"{folder.name}\n", durable=True)


@dataclass(frozen=True)
class Found:
    """What `load_newest` found."""

    checkpoint: Checkpoint | None
    """The newest sound checkpoint, if any."""
    damaged: tuple[str, ...]
    """One message for each newer checkpoint that was passed over."""


def load_newest(output_dir: Path) -> Found:
    """The newest checkpoint whose digest is right; damaged ones are reported and passed over."""
    damaged: list[str] = []
    for step, folder in _committed(output_dir):
        try:
            return Found(_read(folder, step), tuple(damaged))
        except StageError as error:
            damaged.append(str(error))
    return Found(None, tuple(damaged))


def keep_newest_and_best(output_dir: Path) -> None:
    """Drop all other committed checkpoints."""
    step = newest_step(output_dir)
    if step is not None:
        _drop_old(output_dir, step, keep=1)


def newest_step(output_dir: Path) -> int | None:
    """Step of the newest committed checkpoint, unread."""
    return next((step for step, _ in _committed(output_dir)), None)


def _drop_old(output_dir: Path, newest_step: int, keep: int) -> None:
    """Drop what is older than `keep` checkpoints, and the damaged ones ahead of the newest."""
    committed = list(_committed(output_dir))
    ahead = [folder for step, folder in committed if step > newest_step]
    best = _read_name(output_dir / FOLDER_NAME / BEST_NAME)
    for folder in ahead + [folder for _, folder in committed[len(ahead) + keep :]]:
        if folder.name != best or folder in ahead:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(output_dir: Path, step: int) -> Path:
    return output_dir / FOLDER_NAME / f"step-{step:08d}"


def _committed(output_dir: Path) -> Iterator[tuple[int, Path]]:
    """Steps and folders, newest first."""
    folders = (output_dir / FOLDER_NAME).glob("step-*")
    found = ((re.fullmatch(r"step-(\d{8,})", folder.name), folder) for folder in folders)
    yield from sorted(((int(match[1]), folder) for match, folder in found if match), reverse=True)


def _read(folder: Path, step: int) -> Checkpoint:
    record = read_json(folder / RECORD_NAME, _Record, "it cannot be resumed from")
    try:
        state = (folder / STATE_NAME).read_bytes()
    except OSError as error:
        raise StageError(f"checkpoint {folder} is damaged: {error}") from None
    if record.step != step or hashlib.sha256(state).hexdigest() != record.state_sha256:
        raise StageError(f"checkpoint {folder} is damaged: {STATE_NAME} is not what was written")
    return Checkpoint(step, safetensors.torch.load(state))


def _read_name(path: Path) -> str | None:
    return path.read_text(encoding="utf-8").strip() if path.exists() else None
