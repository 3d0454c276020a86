"""In which order an epoch shows its images, and how batches and ranks cut it.

The order is a function of (seed, epoch, window) and the split's blocks alone: the same for every
number of ranks, resident or streaming. Every image comes exactly once. An epoch has as few batches
as hold at most `batch_size` images each, and their sizes differ by one image at most, so there is
no small last batch and nothing is left out.

A split of at most `window` images is permuted as a whole. A larger one is mixed as it is read:

1. its blocks of images come in random order, and this sequence is cut into `LANES` equal parts;
2. a lane mixes `window / LANES` images at a time;
3. the epoch takes one image from each lane in turn.

Rank r of R reads the lanes v with v mod R = r. So every rank reads its own part of the data from
one end to the other, and a batch holds images from all over the split.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.ranks import Ranks
from stages.data.counter_rng import Stream, draw, permutation

LANES = 960
"""Part of the order. 1 to 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96 ... ranks divide it; others get
shares that differ by a lane."""

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class EpochBatches:
    """How an epoch is cut into global batches, and each of them into shares."""

    num_images: int
    steps: int

    def start(self, step: int) -> int:
        """Return where in the epoch's order a step begins."""
        return step * self.num_images // self.steps

    def size(self, step: int) -> int:
        """Return the images of a step, over all ranks."""
        return self.start(step + 1) - self.start(step)


def cut_epoch(num_images: int, batch_size: int, ranks: Ranks) -> EpochBatches:
    """Cut an epoch into the fewest batches of at most `batch_size` images.

    Raises:
        UserError: a batch exceeds the split, or a rank could be left without an image.
    """
    if batch_size > num_images:
        raise UserError(
            f"batch_size is {batch_size:,}, but the split has only {num_images:,} images; choose a "
            "smaller batch_size"
        )
    steps = -(-num_images // batch_size)
    is_even = LANES % ranks.world_size == 0
    if num_images // steps < ranks.world_size * (1 if is_even else 2):
        raise UserError(
            f"a batch of {num_images // steps} images (batch_size {batch_size}, {num_images:,} in "
            f"the split) cannot be shared by {ranks.world_size} ranks; use fewer ranks or a larger "
            "batch_size"
        )
    return EpochBatches(num_images, steps)


def epoch_order(block_sizes: Sequence[int], seed: int, epoch: int, window: int) -> Indices:
    """Return the index of the image at each position of an epoch.

    Args:
        block_sizes: images of each block of the split, in its order.
        seed: of the run.
        epoch: from 0 up.
        window: images that are mixed at a time.

    Returns:
        int64 (N,), every number below N once.
    """
    num_images = sum(block_sizes)
    if num_images <= window:
        return permutation(num_images, Stream.EPOCH_ORDER, seed, epoch)
    sequence = _blocks_in_random_order(block_sizes, seed, epoch)
    lengths = (num_images - np.arange(LANES) + LANES - 1) // LANES
    lane = np.repeat(np.arange(LANES), lengths)
    place = np.arange(num_images) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    number = draw(sequence, Stream.POOL_ORDER, seed, epoch)
    mixed = np.lexsort((number, place // lane_window(window), lane))
    order = np.empty(num_images, np.int64)
    order[place * LANES + lane] = sequence[mixed]
    return order


def lane_window(window: int) -> int:
    """Return how many images a lane mixes at a time."""
    return max(1, window // LANES)


def share_of_rank(num_positions: int, ranks: Ranks, start: int = 0) -> Indices:
    """Return the positions from `start` to `num_positions` whose images a rank trains on."""
    positions = np.arange(start, num_positions)
    mine: Indices = positions[positions % LANES % ranks.world_size == ranks.rank]
    return mine


def _blocks_in_random_order(block_sizes: Sequence[int], seed: int, epoch: int) -> Indices:
    sizes = np.array(block_sizes)
    firsts = np.cumsum(sizes) - sizes
    order = permutation(len(sizes), Stream.BLOCK_ORDER, seed, epoch)
    return np.concatenate([np.arange(firsts[i], firsts[i] + sizes[i]) for i in order])
