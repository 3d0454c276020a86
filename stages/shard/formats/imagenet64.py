"""ImageNet downsampled to 64 x 64: the official npz batches; val_data.npz is our `test` split.

    train_data_batch_1.npz ... train_data_batch_10.npz, val_data.npz
        data uint8 (N, 12288), each row the red, green and blue planes of an image
        labels (N,) from 1 to 1000
    map_clsloc.txt      optional: code, number and name of each class, by spaces

The 15.7 GB of training pixels stay on disk and are mapped into memory.
"""

import hashlib
import shutil
import threading
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from stages.data.dataset import Dataset
from stages.data.manifest import SourceFile
from stages.shard.pictures import in_parallel
from stages.shard.source import (
    Images,
    Labels,
    Positions,
    Source,
    SourceContext,
    SourceSplit,
    check_labels,
    damaged,
    require_file,
)

_IMAGE_SHAPE = (64, 64, 3)
_NUM_CLASSES = 1000
_CLASS_NAMES_FILE = "map_clsloc.txt"
_HEADERS = threading.Lock()
"""NumPy reads a header by ast.literal_eval, which CPython 3.11 at times fails in several threads:
"SystemError: AST constructor recursion depth mismatch"."""


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """Check every batch against its checksum (CRC-32), read the labels, map the pixels.

    Raises:
        UserError: a batch is missing.
        StageError: a batch is damaged or holds something else.
    """
    paths = {
        split: [require_file(dataset, source_dir, file) for file in batches]
        for split, batches in (("train", dataset.train_files), ("test", dataset.test_files))
    }

    def check(path: Path) -> tuple[tuple[Images, Labels], SourceFile]:
        return _read_batch(path, source_context.scratch_dir), _source_file(path)

    splits, files = {}, []
    for split, some in paths.items():
        checked = in_parallel(
            check, some, source_context.track(f"{split} batches", len(some), "files")
        )
        splits[split] = _mapped_split([batch for batch, _ in checked])
        files += [file for _, file in checked]
    return Source(_IMAGE_SHAPE, _class_names(source_dir), splits, tuple(files))


def _mapped_split(batches: list[tuple[Images, Labels]]) -> SourceSplit:
    starts = np.cumsum([0, *(len(labels) for _, labels in batches)])

    def read_images(positions: Positions) -> Images:
        planes = np.empty((len(positions), 3, 64, 64), np.uint8)
        owners = np.searchsorted(starts, positions, side="right") - 1
        for owner in np.unique(owners):
            is_owned = owners == owner
            rows = batches[owner][0][positions[is_owned] - starts[owner]]
            planes[is_owned] = rows.reshape(-1, 3, 64, 64)
        return planes.transpose(0, 2, 3, 1)

    return SourceSplit(np.concatenate([labels for _, labels in batches]), read_images)


def _read_batch(path: Path, scratch_dir: Path) -> tuple[Images, Labels]:
    """Return the mapped rows (N, 12288) of a batch, and its labels from 0 up."""
    try:
        with zipfile.ZipFile(path) as archive:
            rows = _map_member(path, archive, "data.npy", scratch_dir)
            with archive.open("labels.npy") as file, _HEADERS:
                labels = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise damaged(path, f"it is no npz batch of images: {error}") from error
    if rows.dtype != np.uint8 or rows.shape[1:] != (12288,):
        raise damaged(path, f"its data are {rows.dtype} {rows.shape}, not uint8 (N, 12288)")
    if labels.shape != (len(rows),) or labels.dtype.kind not in "iu":
        raise damaged(path, f"its labels are {labels.dtype} {labels.shape} for {len(rows)} images")
    numbers = labels.astype(np.int64)
    if len(numbers) and numbers.min() < 1:
        raise damaged(path, f"it has the label {numbers.min()}, but labels go from 1 to 1000")
    check_labels(path, numbers - 1, _NUM_CLASSES)
    return rows, numbers - 1


def _map_member(path: Path, archive: zipfile.ZipFile, name: str, scratch_dir: Path) -> Images:
    """Map an array of an npz: in place if it is stored as it is, else unpacked beside."""
    with archive.open(name) as member:
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            unpacked = scratch_dir / f"{path.name}.{name}"
            with unpacked.open("wb") as file:
                shutil.copyfileobj(member, file)
            with _HEADERS:
                mapped: Images = np.load(unpacked, mmap_mode="r", allow_pickle=False)
            return mapped
        while member.read(1 << 22):  # reading to the end compares the CRC-32
            pass
    with path.open("rb") as file:
        file.seek(_content_offset(file, archive.getinfo(name)))
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has an unknown .npy version")
        with _HEADERS:
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if is_fortran or dtype != np.uint8:
            raise ValueError(f"{name} holds {dtype}, not uint8 in C order")
        return np.memmap(path, dtype, "r", file.tell(), shape)


def _content_offset(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return where a member's content starts: after its header of 30 bytes, name and extras."""
    file.seek(member.header_offset + 26)
    name_bytes, extra_bytes = np.frombuffer(file.read(4), "<u2")
    return member.header_offset + 30 + int(name_bytes) + int(extra_bytes)


def _source_file(path: Path) -> SourceFile:
    try:
        with path.open("rb") as file:
            return SourceFile(
                name=path.name, sha256=hashlib.file_digest(file, "sha256").hexdigest()
            )
    except OSError as error:
        raise damaged(path, str(error)) from error


def _class_names(source_dir: Path) -> tuple[str, ...]:
    path = source_dir / _CLASS_NAMES_FILE
    if not path.is_file():
        return tuple(str(number) for number in range(1, _NUM_CLASSES + 1))
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        names = {int(number): name.replace("_", " ") for _, number, name in filter(None, lines)}
        return tuple(names[number] for number in range(1, _NUM_CLASSES + 1))
    except (OSError, ValueError, KeyError) as error:
        raise damaged(path, f"not `code number name` for classes 1 to 1000: {error!r}") from error
