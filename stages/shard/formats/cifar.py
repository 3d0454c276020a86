"""CIFAR-10 and CIFAR-100: the published Python batches.

A batch is a pickled dictionary: `data` uint8 (N, 3072), each row the red, green and blue planes of
an image, and `labels` (CIFAR-10) or `fine_labels` (CIFAR-100), a list of N class numbers.
"""

from pathlib import Path

import numpy as np

from stages.data.dataset import Dataset, PublishedFile
from stages.data.manifest import SourceFile
from stages.shard.pickles import load_plain_pickle
from stages.shard.source import (
    Images,
    Labels,
    Positions,
    Source,
    SourceContext,
    SourceSplit,
    check_labels,
    check_published,
    damaged,
    read_source_file,
)

_IMAGE_SHAPE = (32, 32, 3)


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """Read the batches into memory.

    Raises:
        UserError: a batch is missing.
        StageError: a batch is damaged, or asks the unpickler for anything but arrays.
    """
    assert dataset.classes is not None
    splits, files = {}, []
    for split, batches in (("train", dataset.train_files), ("test", dataset.test_files)):
        planes, labels = [], []
        for batch in batches:
            batch_planes, batch_labels, entry = _read_batch(dataset, source_dir, batch)
            planes.append(batch_planes)
            labels.append(batch_labels)
            files.append(entry)
        splits[split] = _in_memory(np.concatenate(planes), np.concatenate(labels))
    return Source(_IMAGE_SHAPE, dataset.classes, splits, tuple(files))


def _in_memory(planes: Images, labels: Labels) -> SourceSplit:
    def read_images(positions: Positions) -> Images:
        return planes[positions].transpose(0, 2, 3, 1)

    return SourceSplit(labels, read_images)


def _read_batch(
    dataset: Dataset, source_dir: Path, file: PublishedFile
) -> tuple[Images, Labels, SourceFile]:
    """Return planes (N, 3, 32, 32), labels (N,) and the manifest's entry of one batch."""
    path, content, entry = read_source_file(dataset, source_dir, file)
    try:
        batch = load_plain_pickle(content)
        numbers = batch["fine_labels" if "fine_labels" in batch else "labels"]
        rows, labels = np.asarray(batch["data"]), np.array(numbers, np.int64).reshape(-1)
    except Exception as error:  # a damaged pickle can raise anything
        raise damaged(path, f"it is no batch of images: {error or type(error).__name__}") from error
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != 3072:
        raise damaged(path, f"its data are {rows.dtype} {rows.shape}, not uint8 (N, 3072)")
    if len(labels) != len(rows):
        raise damaged(path, f"it has {len(labels):,} labels for {len(rows):,} images")
    assert dataset.classes is not None
    check_labels(path, labels, len(dataset.classes))
    check_published(file, path, content)
    return rows.reshape(-1, 3, 32, 32), labels, entry
