"""MNIST and Fashion-MNIST: four idx files, plain or .gz.

An idx file is a magic number (two zero bytes, the element type, the number of dimensions), the
dimensions as big-endian 32-bit numbers, and the elements.
"""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.data.catalogue import Dataset
from stages.data.manifest import SourceFile
from stages.shard.sources.source import (
    Source,
    SourceSplit,
    Workplace,
    check_labels,
    check_published,
    damaged,
    read_source_file,
)

_UINT8 = 0x08


def open_idx(dataset: Dataset, source_dir: Path, workplace: Workplace) -> Source:
    """Read the four files of an MNIST-like dataset into memory.

    Raises:
        UserError: a file is missing.
        StageError: a file is damaged, or labels and images do not belong together.
    """
    assert dataset.image_shape is not None and dataset.classes is not None
    splits, files = {}, []
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        images_path, images, images_file = _read_idx(dataset, source_dir, images_name, 3)
        labels_path, raw_labels, labels_file = _read_idx(dataset, source_dir, labels_name, 1)
        if images.shape[1:] != dataset.image_shape[:2]:
            size = " x ".join(map(str, images.shape[1:]))
            right = " x ".join(map(str, dataset.image_shape[:2]))
            raise damaged(images_path, f"its images are {size}, not {right}")
        if len(images) != len(raw_labels):
            raise damaged(
                labels_path,
                f"it has {len(raw_labels):,} labels, {images_name} has {len(images):,} images",
            )
        labels = raw_labels.astype(np.int64)
        check_labels(labels_path, labels, len(dataset.classes))
        splits[split] = SourceSplit(labels, images[..., None].__getitem__)
        files += [images_file, labels_file]
    return Source(dataset.image_shape, dataset.classes, splits, tuple(files))


def _read_idx(
    dataset: Dataset, source_dir: Path, name: str, num_dimensions: int
) -> tuple[Path, NDArray[np.uint8], SourceFile]:
    path, content, entry = read_source_file(dataset, source_dir, name)
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
    check_published(dataset, path, name, content)
    return path, np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape), entry
