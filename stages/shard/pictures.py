"""Reads picture files (PNG, JPEG, ...) as uint8 arrays, and sums up whole trees of them."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from pipeline.errors import StageError
from pipeline.monitor.progress import Progress
from stages.data.manifest import SourceFile
from stages.shard.source import Images, Labels, Positions, SourceContext, SourceSplit

_GREY_MODES = ("1", "L")
_COLOUR_MODES = ("RGB", "P", "CMYK")

Result = TypeVar("Result")


def picture_split(
    paths: Sequence[Path], labels: Labels, image_shape: tuple[int, int, int]
) -> SourceSplit:
    """Return a split whose images are picture files, all of one shape."""

    def read_images(positions: Positions) -> Images:
        return np.stack([read_picture(paths[position], image_shape) for position in positions])

    return SourceSplit(labels, read_images)


def picture_shape(path: Path) -> tuple[int, int, int]:
    """Read height, width and channels (1 grey, 3 colour) from a picture's header.

    Raises:
        StageError: it is no picture, or one that has no plain grey or colour values.
    """
    with _open(path) as picture:
        _check_mode(path, picture)
        return picture.height, picture.width, 1 if picture.mode in _GREY_MODES else 3


def read_picture(path: Path, image_shape: tuple[int, int, int]) -> Images:
    """Return a picture as (H, W, C); a grey one among coloured ones has three equal channels.

    Raises:
        StageError: it cannot be read, has another size, or is coloured where grey is due.
    """
    height, width, channels = image_shape
    with _open(path) as picture:
        _check_mode(path, picture)
        if (picture.height, picture.width) != (height, width):
            raise StageError(
                f"{path} is {picture.height} x {picture.width} pixels, the others {height} x "
                f"{width}; all pictures must have one size: crop or scale it first"
            )
        if channels == 1 and picture.mode not in _GREY_MODES:
            raise StageError(f"{path} is coloured, the others are grey; convert it first")
        try:
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise _unreadable(path, error) from error
    return pixels.reshape(image_shape)


def digest_tree(root: Path, paths: Sequence[Path], source_context: SourceContext) -> SourceFile:
    """Return one checksum for many files: of the sorted lines `<path from root> <sha256>`.

    Raises:
        StageError: a file cannot be read.
    """

    def line(path: Path) -> str:
        try:
            return f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
        except OSError as error:
            raise _unreadable(path, error) from error

    progress = source_context.track("checksums", len(paths), "files")
    lines = sorted(in_parallel(line, paths, progress))
    tree = hashlib.sha256("".join(lines).encode()).hexdigest()
    return SourceFile(name=f"{len(paths)} files", sha256=tree)


def in_parallel(
    function: Callable[[Path], Result], paths: Sequence[Path], progress: Progress
) -> list[Result]:
    """Return `function` of every path, by one thread a core; stop at the first failure."""
    # A thousand tasks, not one a path: a million tasks in the queue would take a gigabyte.
    size = max(1, len(paths) // 1000)
    chunks = [paths[start : start + size] for start in range(0, len(paths), size)]
    results: list[Result] = []
    pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        with progress:
            for some in pool.map(lambda chunk: [function(path) for path in chunk], chunks):
                results += some
                progress.advance(len(some))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _check_mode(path: Path, picture: Image.Image) -> None:
    has_transparency = "transparency" in picture.info
    if picture.mode not in _GREY_MODES + _COLOUR_MODES or has_transparency:
        what = "transparent" if has_transparency else f"of kind {picture.mode}"
        raise StageError(
            f"{path} is {what}; only plain 8-bit grey or colour pictures have one meaning: "
            "convert it to L or RGB first"
        )


def _unreadable(path: Path, error: Exception) -> StageError:
    return StageError(f"{path} cannot be read as a picture: {error}; replace or remove it")
