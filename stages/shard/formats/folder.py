"""Any tree of pictures: train/<class>/<picture> and test/<class>/<picture>."""

from pathlib import Path

import numpy as np

from pipeline.errors import StageError
from stages.data.dataset import Dataset
from stages.shard.pictures import digest_tree, in_parallel, picture_shape, picture_split
from stages.shard.source import Source, SourceContext, missing


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """List the pictures, and check from their headers that all have one size.

    Classes are the folder names in alphabetical order. The images are grey if every picture is,
    else coloured. Hidden files are passed over.

    Raises:
        UserError: train/ or test/ is missing.
        StageError: the classes of train/ and test/ differ, a class is empty, or a file is no
            picture of the common size.
    """
    for split in ("train", "test"):
        if not (source_dir / split).is_dir():
            raise missing(dataset, source_dir, split)
    classes = _folder_names(source_dir / "train")
    if _folder_names(source_dir / "test") != classes:
        odd = min(set(classes) ^ set(_folder_names(source_dir / "test")))
        raise StageError(
            f"{source_dir}: the class {odd!r} is in only one of train/ and test/; give both the "
            "same class folders"
        )
    pictures = {
        split: [
            (path, label)
            for label, name in enumerate(classes)
            for path in _pictures(source_dir / split / name)
        ]
        for split in ("train", "test")
    }
    paths = [path for some in pictures.values() for path, _ in some]
    image_shape = _common_shape(paths, source_context)
    splits = {
        split: picture_split(
            [path for path, _ in some],
            np.array([label for _, label in some], np.int64),
            image_shape,
        )
        for split, some in pictures.items()
    }
    tree = digest_tree(source_dir, paths, source_context)
    return Source(image_shape, classes, splits, (tree,))


def _folder_names(folder: Path) -> tuple[str, ...]:
    names = sorted(path.name for path in folder.iterdir() if _is_visible(path))
    for name in names:
        if not (folder / name).is_dir():
            raise StageError(f"{folder / name} is no class folder; move it elsewhere")
    if len(names) < 2:
        raise StageError(f"{folder} has {len(names)} class folders; at least two are needed")
    return tuple(names)


def _pictures(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if _is_visible(path))
    if not paths:
        raise StageError(f"{folder} has no pictures; add some or remove the class")
    return paths


def _common_shape(paths: list[Path], source_context: SourceContext) -> tuple[int, int, int]:
    shapes = in_parallel(
        picture_shape, paths, source_context.track("sizes", len(paths), "pictures")
    )
    height, width, _ = shapes[0]
    for path, (other_height, other_width, _) in zip(paths, shapes, strict=True):
        if (other_height, other_width) != (height, width):
            raise StageError(
                f"{path} is {other_height} x {other_width} pixels, {paths[0]} is {height} x "
                f"{width}; all pictures must have one size: crop or scale them first"
            )
    return height, width, max(channels for _, _, channels in shapes)


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".")
