"""Opens the source of any dataset of the catalogue."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import StageError, UserError
from stages.data.catalogue import Dataset, Layout
from stages.shard.sources.cifar import open_cifar
from stages.shard.sources.folder import open_folder
from stages.shard.sources.idx import open_idx
from stages.shard.sources.imagenet64 import open_imagenet64
from stages.shard.sources.source import Source, Workplace
from stages.shard.sources.tinyimagenet import open_tinyimagenet

_READERS: Mapping[Layout, Callable[[Dataset, Path, Workplace], Source]] = {
    "idx": open_idx,
    "cifar10": open_cifar,
    "cifar100": open_cifar,
    "tinyimagenet": open_tinyimagenet,
    "imagenet64": open_imagenet64,
    "folder": open_folder,
}


def open_source(dataset: Dataset, source_dir: Path, workplace: Workplace) -> Source:
    """Open a dataset's raw files and check all that can be checked before images are decoded.

    Args:
        dataset: the catalogue's entry.
        source_dir: where the files are.
        workplace: room for unpacked files, and the progress display.

    Raises:
        UserError: the folder or a file is missing.
        StageError: a file is damaged, or the number of images is not the published one.
    """
    if not source_dir.is_dir():
        raise UserError(
            f"{dataset.title}: the source folder {source_dir} does not exist; set `source` to the "
            f"folder of the raw files{_fetch_hint(dataset, source_dir)}"
        )
    source = _READERS[dataset.layout](dataset, source_dir, workplace)
    for split, expected in (
        ("train", dataset.num_train_images),
        ("test", dataset.num_test_images),
    ):
        found = len(source.splits[split].labels)
        if expected is not None and found != expected:
            raise StageError(
                f"{source_dir} holds {found:,} {split} images, but {dataset.title} has "
                f"{expected:,}; fetch the files again"
            )
    return source


def _fetch_hint(dataset: Dataset, source_dir: Path) -> str:
    if not dataset.files:
        return ""
    return f", or run `python -m pipeline fetch {dataset.name} --to {source_dir}`"
