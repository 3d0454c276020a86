"""TinyImageNet in its official layout; its val images are our `test` split.

    wnids.txt, words.txt                       the 200 class codes; code TAB names
    train/<code>/images/<name>.JPEG
    val/images/<name>.JPEG, val/val_annotations.txt    name TAB code TAB box

The official test images have no labels and are not used.
"""

from pathlib import Path

import numpy as np

from pipeline.errors import StageError
from stages.data.dataset import Dataset, PublishedFile
from stages.shard.pictures import digest_tree, picture_split
from stages.shard.source import Source, SourceContext, damaged, missing, require_file

_SUFFIX = ".JPEG"


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """List the pictures of both splits and their labels; pixels are read when asked for.

    Raises:
        UserError: a file or folder of the layout is missing.
        StageError: annotations and pictures do not belong together.
    """
    assert dataset.image_shape is not None

    def find(name: str) -> Path:
        return require_file(dataset, source_dir, PublishedFile(name))

    codes = sorted(_read_lines(find("wnids.txt")))
    classes = _class_names(find("words.txt"), codes)
    annotations = find("val/val_annotations.txt")
    train = _train_pictures(dataset, source_dir, codes)
    test = _val_pictures(annotations, codes)
    paths = [path for path, _ in train + test]
    tree = digest_tree(source_dir, [*paths, annotations], source_context)
    splits = {
        split: picture_split(
            [path for path, _ in pictures],
            np.array([label for _, label in pictures], np.int64),
            dataset.image_shape,
        )
        for split, pictures in (("train", train), ("test", test))
    }
    return Source(dataset.image_shape, classes, splits, (tree,))


def _train_pictures(dataset: Dataset, source_dir: Path, codes: list[str]) -> list[tuple[Path, int]]:
    pictures = []
    for label, code in enumerate(codes):
        folder = source_dir / "train" / code / "images"
        if not folder.is_dir():
            raise missing(dataset, source_dir, f"train/{code}/images")
        pictures += [(path, label) for path in sorted(folder.glob(f"*{_SUFFIX}"))]
    unknown = {path.name for path in (source_dir / "train").iterdir()} - set(codes)
    if unknown:
        raise StageError(
            f"{source_dir / 'train'} has {min(unknown)}, which wnids.txt does not list; unpack the "
            "archive again into an empty folder"
        )
    return pictures


def _val_pictures(annotations: Path, codes: list[str]) -> list[tuple[Path, int]]:
    label_of = {code: label for label, code in enumerate(codes)}
    folder = annotations.parent / "images"
    pictures: dict[Path, int] = {}
    for number, line in enumerate(_read_lines(annotations), 1):
        name, code = [*line.split("\t"), ""][:2]
        path = folder / name
        if code not in label_of:
            raise damaged(annotations, f"line {number} names the class {code!r}, not in wnids.txt")
        if path in pictures:
            raise damaged(annotations, f"line {number} names {name} a second time")
        if not path.is_file():
            raise damaged(annotations, f"line {number} names {name}, which is not in {folder}")
        pictures[path] = label_of[code]
    extra = set(folder.glob(f"*{_SUFFIX}")) - set(pictures)
    if extra:
        raise damaged(annotations, f"it has no line for {min(extra).name}")
    return list(pictures.items())


def _class_names(words: Path, codes: list[str]) -> tuple[str, ...]:
    """Return the first of each class's names."""
    names = dict(line.partition("\t")[::2] for line in _read_lines(words))
    absent = [code for code in codes if not names.get(code)]
    if absent:
        raise damaged(words, f"it has no name for the class {absent[0]}")
    return tuple(names[code].split(",")[0].strip() for code in codes)


def _read_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise damaged(path, str(error)) from error
    return [line for line in lines if line.strip()]
