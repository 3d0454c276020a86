"""Small shard artifacts, written by the project's own writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages.data.manifest import Manifest, Split, image_key, write_manifest
from stages.data.shards import Sample, write_block_shard, write_picture_shard

WriteArtifact = Callable[..., tuple[Path, Manifest]]


def image_of(split: str, index: int, image_shape: tuple[int, int, int]) -> np.ndarray:
    """Pixels that no other image has."""
    generator = np.random.default_rng([len(split), index])
    return generator.integers(0, 256, image_shape, dtype=np.uint8)


@pytest.fixture
def write_artifact(tmp_path: Path) -> WriteArtifact:
    """Writes an artifact: `write_artifact({"train": 100}, images_per_block=8, ...)`."""

    def write(
        num_images: dict[str, int],
        image_shape: tuple[int, int, int] = (4, 5, 1),
        images_per_block: int = 8,
        blocks_per_shard: int = 2,
    ) -> tuple[Path, Manifest]:
        data_dir = tmp_path / "artifact"
        data_dir.mkdir(exist_ok=True)
        per_shard = images_per_block * blocks_per_shard
        writer = write_picture_shard if images_per_block == 1 else write_block_shard
        splits = {}
        for split, num in num_images.items():
            shards = []
            for number, start in enumerate(range(0, num, per_shard)):
                end = min(start + per_shard, num)
                samples = []
                for first in range(start, end, images_per_block):
                    members = range(first, min(first + images_per_block, end))
                    images = np.stack([image_of(split, i, image_shape) for i in members])
                    labels = np.array([i % 10 for i in members], np.int64)
                    samples.append(Sample(image_key(split, first), images, labels))
                shards.append(writer(data_dir / f"{split}-{number:06d}.tar", samples))
            splits[split] = Split(num_images=num, shards=tuple(shards))
        manifest = Manifest(
            dataset="toy",
            classes=tuple("0123456789"),
            image_shape=image_shape,
            mean=(0.5,) * image_shape[2],
            std=0.25,
            seed=0,
            images_per_block=images_per_block,
            sources=(),
            splits=splits,
        )
        write_manifest(data_dir, manifest)
        return data_dir, manifest

    return write


@pytest.fixture
def flip_byte() -> Callable[[Path, int], None]:
    """Flips one bit of the byte at an offset of a file."""

    def flip(path: Path, offset: int) -> None:
        content = bytearray(path.read_bytes())
        content[offset] ^= 1
        path.write_bytes(content)

    return flip
