"""Files that are there whole or not at all, and JSON files read into frozen types."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import StageError


class FrozenModel(BaseModel):
    """A frozen value with no field but those declared; a field's docstring says what it means."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
    )


Model = TypeVar("Model", bound=BaseModel)


def write_atomic(path: Path, content: bytes | str, *, durable: bool = False) -> None:
    """Write a file that is there whole or not at all; an older one is replaced.

    Args:
        path: in an existing folder.
        content: text is written as UTF-8.
        durable: True also waits until the bytes and the name are on disk, so that the file outlives
            a power cut.
    """
    temporary = temporary_path(path)
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    temporary.replace(path)
    if durable:
        sync(path.parent)


def temporary_path(path: Path) -> Path:
    """Where `write_atomic` writes before it renames; a kill may leave it behind."""
    return path.with_name(f".{path.name}.tmp")


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, model: type[Model], advice: str) -> Model:
    """Read a JSON file that a model describes.

    Args:
        path: of the file.
        model: what it must hold.
        advice: what to do if it is missing or damaged, for the error: "run the train stage".

    Raises:
        StageError: it cannot be read, or does not hold what it must.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StageError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    return parse_json(content, model, f"{path}", advice)


def parse_json(content: bytes | str, model: type[Model], origin: str, advice: str) -> Model:
    """Read JSON that a model describes; `origin` names where it comes from, for the error.

    Raises:
        StageError: it does not hold what it must.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StageError(f"{origin}: damaged at {where}: {first['msg']}; {advice}") from None
