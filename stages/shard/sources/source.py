"""What every format's reader hands back, and the checks that all of them make."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError, UserError
from pipeline.monitor.progress import Progress
from stages.data.catalogue import Dataset
from stages.data.checksums import digest, find_source_file, is_published, read_content
from stages.data.manifest import SourceFile

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Workplace:
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
    """An opened dataset: every label known, the images within reach."""

    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    classes: tuple[str, ...]
    splits: Mapping[str, SourceSplit]
    """`train` and `test`."""
    files: tuple[SourceFile, ...]


def require_file(dataset: Dataset, source_dir: Path, name: str) -> Path:
    """The path of `name` or `name.gz` in the source folder.

    Raises:
        UserError: neither is there.
    """
    path = find_source_file(source_dir, name)
    if path is None:
        raise missing(dataset, source_dir, name)
    return path


def missing(dataset: Dataset, source_dir: Path, name: str) -> UserError:
    """The error for a file or folder that the source should hold."""
    inside = [found.parent for found in sorted(source_dir.glob(f"*/{name}*"))[:1]]
    if inside:
        advice = f"set `source: {inside[0]}`, where one lies"
    elif dataset.layout in ("idx", "cifar10", "cifar100"):
        advice = (
            f"fetch it with `python -m pipeline fetch {dataset.name} --to {source_dir}`, or set "
            "`source` to the folder that holds it"
        )
    else:
        advice = "set `source` to the folder that holds it"
    return UserError(f"{dataset.title}: {source_dir / name} is missing; {advice}")


def read_source_file(
    dataset: Dataset, source_dir: Path, name: str
) -> tuple[Path, bytes, SourceFile]:
    """Read a file's content whole; returns its path, the content, and its entry in the manifest.

    Raises:
        UserError: the file is missing.
        StageError: it cannot be read.
    """
    path = require_file(dataset, source_dir, name)
    content = read_content(path)
    return path, content, SourceFile(name=name, sha256=digest(content))


def check_published(dataset: Dataset, path: Path, name: str, content: bytes) -> None:
    """Compare a file's content with the checksum that its publisher lists, if there is one.

    Raises:
        StageError: it is another file.
    """
    for published in dataset.files:
        if published.name == name and not is_published(content, published):
            raise damaged(path, f"its content is not the published one ({published.digest})")


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
    """The error for a source file that is not what it should be."""
    return StageError(f"{path} is damaged or not of this dataset: {what}; fetch it again")
