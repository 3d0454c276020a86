"""A split held in memory: every image in one uint8 tensor on the device."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stages.data.manifest import Manifest, Shard
from stages.data.shards import read_samples, read_shard


@dataclass(frozen=True)
class ImageSet:
    """All images of a split; row i is the image with index i."""

    split: str
    images: Tensor
    """uint8 (N, C, H, W)"""
    labels: Tensor
    """int64 (N,)"""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device


def load_split(
    data_dir: Path, manifest: Manifest, split: str, device: torch.device | str = "cpu"
) -> ImageSet:
    """Read a split's shards in parallel, verify their checksums, put the images on a device.

    Args:
        data_dir: the shard stage's artifact.
        manifest: its manifest.
        split: `train`, `validation` or `test`.
        device: where the images are to be.

    Raises:
        StageError: there is no such split, or a shard is missing or damaged.
    """
    shards = manifest.split(split).shards
    height, width, channels = manifest.image_shape
    num_images = manifest.split(split).num_images
    images = torch.empty((num_images, channels, height, width), dtype=torch.uint8)
    labels = torch.empty(num_images, dtype=torch.int64)

    def load_shard(shard: Shard, first_index: int) -> None:
        start = first_index
        content = read_shard(data_dir, shard)
        for sample in read_samples(content, shard, manifest.image_shape):
            end = start + len(sample.labels)
            images[start:end] = torch.from_numpy(sample.images).permute(0, 3, 1, 2)
            labels[start:end] = torch.from_numpy(sample.labels)
            start = end

    # Reading, hashing and copying all leave Python's lock, so threads are enough.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(load_shard, shards, manifest.split(split).first_indices()))
    return ImageSet(split, images.to(device), labels.to(device))
