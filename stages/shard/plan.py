"""Which image goes into which split, shard and block: decided before anything is written."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stages.data.counter_rng import Stream, permutation

Positions = NDArray[np.int64]


@dataclass(frozen=True)
class ShardPlan:
    """One tar file to write."""

    split: str
    name: str
    source_split: str
    """`train` or `test`: validation images are training images of the source."""
    first_index: int
    """Index in the split of the shard's first image."""
    positions: Positions
    """Where in the source split each image lies, in shard order."""
    images_per_block: int

    def blocks(self) -> list[tuple[int, Positions]]:
        """Return of each block the split's index of its first image, and its images' positions."""
        starts = range(0, len(self.positions), self.images_per_block)
        return [
            (self.first_index + start, self.positions[start : start + self.images_per_block])
            for start in starts
        ]


def plan_splits(
    num_train: int, num_test: int, validation_images: int, seed: int
) -> dict[str, tuple[str, Positions]]:
    """Return for each split by name its source split and the positions there.

    The training images are shuffled once; the first `validation_images` of that order are the
    validation split. The test images keep their published order, so that `test-000123` is image
    123 for everybody.
    """
    order = permutation(num_train, Stream.SPLIT, seed)
    splits = {"train": ("train", order[validation_images:])}
    if validation_images:
        splits["validation"] = ("train", order[:validation_images])
    splits["test"] = ("test", np.arange(num_test, dtype=np.int64))
    return splits


def plan_shards(
    split: str,
    source_split: str,
    positions: Positions,
    images_per_block: int,
    image_bytes: int,
    shard_bytes: int,
) -> list[ShardPlan]:
    """Cut a split into shards of whole blocks, as equal as can be.

    Equal shards matter to streaming: ranks that read whole shards then have equally many images.
    """
    num_blocks = -(-len(positions) // images_per_block)
    most_blocks = max(1, shard_bytes // (images_per_block * image_bytes))
    num_shards = -(-num_blocks // most_blocks)
    cuts = [shard * num_blocks // num_shards * images_per_block for shard in range(num_shards)]
    return [
        ShardPlan(
            split=split,
            name=f"{split}-{number:06d}.tar",
            source_split=source_split,
            first_index=start,
            positions=positions[start:end],
            images_per_block=images_per_block,
        )
        for number, (start, end) in enumerate(zip(cuts, [*cuts[1:], len(positions)], strict=True))
    ]
