"""Opens the raw files of a data set, with what its reader returns and what every reader checks.

A reader is the function `open_source` of a module of `stages/shard/formats`, which takes what
`open_source` here takes.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError, UserError
from pipeline.monitor.progress import Progress
from stages.data.dataset import Dataset, PublishedFile, read_content
from stages.data.manifest import SourceFile

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class SourceContext:
    """Where a reader may unpack files, and how it shows a long step's progress."""

    scratch_dir: Path
    """An empty folder, removed when the shards are written."""
    track: Callable[[str, int, str], Progress]
    """Title, total, unit -> a progress display."""


@dataclass(frozen=True)
class SourceSplit:
    """The training or test images of a source."""

    labels: Labels
    """(N,), from 0 up."""
    read_images: Callable[[Positions], Images]
    """Images (n, H, W, C) at the given positions; called from several threads."""


@dataclass(frozen=True)
class Source:
    """An opened data set: every label known, the images within reach."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    classes: tuple[str, ...]
    splits: Mapping[str, SourceSplit]
    """`train` and `test`."""
    files: tuple[SourceFile, ...]


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """Open a data set's raw files and check all that can be checked before images are decoded.

    Args:
        dataset: an entry of the catalogue.
        source_dir: where the files are.
        source_context: room for unpacked files, and the progress display.

    Raises:
        UserError: the folder or a file is missing.
        StageError: a file is damaged, or the number of images is not the published one.
    """
    if not source_dir.is_dir():
        hint = f", or run `{_fetch_command(dataset, source_dir)}`" if dataset.is_fetchable else ""
        raise UserError(
            f"{dataset.title}: the source folder {source_dir} does not exist; set `source` to the "
            f"folder of the raw files{hint}"
        )
    reader = importlib.import_module(f"stages.shard.formats.{dataset.format}")
    source: Source = reader.open_source(dataset, source_dir, source_context)
    expected = {"train": dataset.num_train_images, "test": dataset.num_test_images}
    for split, num_images in expected.items():
        found = len(source.splits[split].labels)
        if num_images is not None and found != num_images:
            raise StageError(
                f"{source_dir} holds {found:,} {split} images, but {dataset.title} has "
                f"{num_images:,}; fetch the files again"
            )
    return source


def require_file(dataset: Dataset, source_dir: Path, file: PublishedFile) -> Path:
    """Return the path of a file, plain or `.gz`, in the source folder.

    Raises:
        UserError: neither is there.
    """
    path = file.find(source_dir)
    if path is None:
        raise missing(dataset, source_dir, file.name)
    return path


def missing(dataset: Dataset, source_dir: Path, name: str) -> UserError:
    """Return the error for a file or folder that the source should hold."""
    inside = [found.parent for found in sorted(source_dir.glob(f"*/{name}*"))[:1]]
    if inside:
        advice = f"set `source: {inside[0]}`, where one lies"
    elif dataset.is_fetchable:
        advice = (
            f"fetch it with `{_fetch_command(dataset, source_dir)}`, or set `source` to the folder "
            "that holds it"
        )
    else:
        advice = "set `source` to the folder that holds it"
    return UserError(f"{dataset.title}: {source_dir / name} is missing; {advice}")


def _fetch_command(dataset: Dataset, source_dir: Path) -> str:
    return f"python -m pipeline fetch {dataset.name} --to {source_dir}"


def read_source_file(
    dataset: Dataset, source_dir: Path, file: PublishedFile
) -> tuple[Path, bytes, SourceFile]:
    """Read a file's content whole; return its path, the content, and its entry in the manifest.

    Raises:
        UserError: the file is missing.
        StageError: it cannot be read.
    """
    path = require_file(dataset, source_dir, file)
    content = read_content(path)
    return path, content, SourceFile(name=file.name, sha256=hashlib.sha256(content).hexdigest())


def check_published(file: PublishedFile, path: Path, content: bytes) -> None:
    """Compare a file's content with the checksum that its publisher lists, if there is one.

    Raises:
        StageError: it is another file.
    """
    if not file.has_content(content):
        raise damaged(path, f"its content is not the published one ({file.digest})")


def check_labels(path: Path, labels: Labels, num_classes: int) -> None:
    """Check that labels are class numbers.

    Raises:
        StageError: one is not; it is named with its position.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise damaged(
            path,
            f"label {labels[wrong[0]]} of image {wrong[0]} is no class number from 0 to "
            f"{num_classes - 1}",
        )


def damaged(path: Path, what: str) -> StageError:
    """Return the error for a source file that is not what it should be."""
    return StageError(f"{path} is damaged or not of this dataset: {what}; fetch it again")
