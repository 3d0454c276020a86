import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ranks import Ranks
from stages.data.shuffling import LANES, cut_epoch, epoch_order, lane_window, share_of_rank

BLOCKS = [256] * 400 + [100]
NUM = sum(BLOCKS)
WINDOW = 20 * LANES


def test_the_order_never_changes_between_releases() -> None:
    # Another order would break resumed runs.
    assert epoch_order([8], 7, 3, window=8).tolist() == [1, 3, 0, 4, 2, 5, 6, 7]
    assert epoch_order(BLOCKS, 0, 0, WINDOW)[:4].tolist() == [52498, 52593, 52712, 90437]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(1, 4000))
def test_every_image_comes_once(blocks: list[int], window: int) -> None:
    order = epoch_order(blocks, 0, 1, window)
    assert sorted(order.tolist()) == list(range(sum(blocks)))


@given(st.integers(1, 5000), st.integers(1, 70))
def test_batches_differ_by_one_image_at_most(num_images: int, batch_size: int) -> None:
    batch_size = min(batch_size, num_images)
    cut = cut_epoch(num_images, batch_size, Ranks())
    sizes = [cut.size(step) for step in range(cut.steps)]
    assert sum(sizes) == num_images
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", [1, 2, 3, 64])
def test_ranks_divide_the_positions(world_size: int) -> None:
    shares = [share_of_rank(5000, Ranks(rank, world_size), 17) for rank in range(world_size)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(17, 5000))


def test_a_large_split_is_read_in_windows_by_rank() -> None:
    """A rank's positions of one window hold few, contiguous parts of the blocks."""
    order = epoch_order(BLOCKS, 0, 0, WINDOW)
    positions = share_of_rank(lane_window(WINDOW) * LANES, Ranks(1, 8))
    wanted = np.sort(order[positions])
    runs = 1 + int((np.diff(wanted) > 1).sum())
    assert len(wanted) == WINDOW // 8
    assert runs <= 2 * LANES // 8  # each lane reads one part of one or two blocks


def test_batches_are_mixed_as_if_by_chance() -> None:
    """How often pairs of images meet in a batch, as a multiple of a uniform permutation's."""
    batch, orders = 512, [epoch_order(BLOCKS, 0, epoch, WINDOW) for epoch in (0, 1)]
    blocks = np.repeat(np.arange(len(BLOCKS)), BLOCKS)
    next_batch = np.empty(NUM, np.int64)
    next_batch[orders[1]] = np.arange(NUM) // batch
    batches = orders[0][: NUM // batch * batch].reshape(-1, batch)
    num_pairs = batches.size * (batch - 1)
    of_a_block = sum(same_pairs(blocks[images]) for images in batches) / num_pairs
    again = sum(same_pairs(next_batch[images]) for images in batches) / num_pairs
    assert of_a_block < 1.25 * 255 / (NUM - 1)  # measured: 1.17
    assert again < 1.05 * (batch - 1) / (NUM - 1)  # measured: 1.02


def same_pairs(names: np.ndarray) -> int:
    counts = np.bincount(names)
    return int((counts * (counts - 1)).sum())
