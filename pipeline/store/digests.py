"""Digests that decide whether a stage has to run again: of its files, its code, its settings."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.files import FrozenModel
from pipeline.spec.load import Stage
from pipeline.spec.settings import StageSettings

SOURCE_SUFFIXES = {".py", ".cpp", ".h", ".cu", ".yaml", ".j2", ".css"}
"""The files of a package that a result can follow from; documents are none."""
SKIPPED_FOLDERS = {"__pycache__", "build", "_build", "bench"}
"""What is built from the sources beside it, and programs that only measure."""


class FileDigest(FrozenModel):
    """What is recorded of one file of an artifact."""

    bytes: int
    sha256: str


def digest_of(value: Any) -> str:
    """The sha256 of a value's JSON text, keys sorted."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> FileDigest:
    """Size and sha256 of a file's bytes."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileDigest(bytes=os.fstat(file.fileno()).st_size, sha256=sha256)


def file_digests(folder: Path, names: list[str]) -> dict[str, FileDigest]:
    """Digest files inside a folder, several at a time: sha256 of a large file needs no Python."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        digests = pool.map(lambda name: file_digest(folder / name), names)
        return dict(zip(names, digests, strict=True))


def artifact_digest(outputs: Mapping[str, FileDigest]) -> str:
    """The digest of an artifact: of its files' names and bytes, nothing of when or how."""
    return digest_of({name: [file.bytes, file.sha256] for name, file in outputs.items()})


def recorded_settings(settings: StageSettings) -> dict[str, Any]:
    """The settings of a stage as `stage.json` has them; it lists the inputs apart."""
    return settings.model_dump(mode="json", exclude={"inputs"})


def deciding_settings(settings: StageSettings) -> dict[str, Any]:
    """The settings of a stage that its result follows from."""
    return settings.model_dump(mode="json", exclude={"inputs", *settings.runtime_only})


def code_digests(package: str, stage: Stage) -> dict[str, str]:
    """The digest of each package whose sources decide the stage's result, by its name."""
    names = (f"{package}.{stage.kind}", *stage.settings.code_packages)
    return {name: _package_digest(name) for name in names}


def work_digest(stage: Stage, code: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """The digest of all that a stage's result follows from.

    Args:
        stage: kind and settings.
        code: `code_digests`.
        inputs: input name -> digest of the artifact read.
    """
    return digest_of(
        {
            "kind": stage.kind,
            "settings": deciding_settings(stage.settings),
            "code": dict(code),
            "inputs": dict(inputs),
        }
    )


def _package_digest(name: str) -> str:
    found = importlib.util.find_spec(name)
    assert found and found.submodule_search_locations, f"{name} must be a package"
    folder = Path(next(iter(found.submodule_search_locations)))
    hasher = hashlib.sha256()
    for path in sorted(_source_files(folder)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        hasher.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return hasher.hexdigest()


def _source_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.name not in SKIPPED_FOLDERS:
            yield from _source_files(path)
        elif path.suffix in SOURCE_SUFFIXES:
            yield path
