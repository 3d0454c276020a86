"""Data sets like MNIST: of each split a file of images and one of labels, plain or .gz.

An idx file is a magic number (two zero bytes, the element type, the number of dimensions), the
dimensions as big-endian 32-bit numbers, and the elements.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.data.dataset import Dataset, PublishedFile
from stages.data.manifest import SourceFile
from stages.shard.source import (
    Source,
    SourceContext,
    SourceSplit,
    check_labels,
    check_published,
    damaged,
    read_source_file,
)

_UINT8 = 0x08


def open_source(dataset: Dataset, source_dir: Path, source_context: SourceContext) -> Source:
    """Read the four files into memory.

    Raises:
        UserError: a file is missing.
        StageError: a file is damaged, or labels and images do not belong together.
    """
    assert dataset.image_shape is not None and dataset.classes is not None
    splits, files = {}, []
    for split, pair in (("train", dataset.train_files), ("test", dataset.test_files)):
        images_path, images, images_file = _read_idx(dataset, source_dir, pair[0], 3)
        labels_path, raw_labels, labels_file = _read_idx(dataset, source_dir, pair[1], 1)
        if images.shape[1:] != dataset.image_shape[:2]:
            size = " x ".join(map(str, images.shape[1:]))
            right = " x ".join(map(str, dataset.image_shape[:2]))
            raise damaged(images_path, f"its images are {size}, not {right}")
        if len(images) != len(raw_labels):
            raise damaged(
                labels_path,
                f"it has {len(raw_labels):,} labels, {pair[0].name} has {len(images):,} images",
            )
        labels = raw_labels.astype(np.int64)
        check_labels(labels_path, labels, len(dataset.classes))
        splits[split] = SourceSplit(labels, images[..., None].__getitem__)
        files += [images_file, labels_file]
    return Source(dataset.image_shape, dataset.classes, splits, tuple(files))


def _read_idx(
    dataset: Dataset, source_dir: Path, file: PublishedFile, num_dimensions: int
) -> tuple[Path, NDArray[np.uint8], SourceFile]:
    path, content, entry = read_source_file(dataset, source_dir, file)
    header_bytes = 4 + 4 * num_dimensions
    magic = struct.pack(">HBB", 0, _UINT8, num_dimensions)
    if content[:4] != magic:
        raise damaged(path, f"it starts with {content[:4].hex(' ')}, not with {magic.hex(' ')}")
    if len(content) < header_bytes:
        raise damaged(path, "it ends inside its header")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_bytes])
    num_bytes = header_bytes + int(np.prod(shape, dtype=np.int64))
    if len(content) != num_bytes:
        raise damaged(path, f"its header promises {num_bytes:,} bytes, it has {len(content):,}")
    check_published(file, path, content)
    return path, np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape), entry
