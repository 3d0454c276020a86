import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.ranks import Ranks
from stages.data.batches import Batch, BatchSettings, ResidentBatches, in_order
from stages.data.in_memory import ImageSet


def numbered_images(num: int) -> ImageSet:
    """Images whose every pixel is their index."""
    images = torch.arange(num).view(num, 1, 1, 1).expand(num, 1, 2, 2).to(torch.uint8)
    return ImageSet("train", images, torch.arange(num) % 10)


def global_batches(batches: list[ResidentBatches], epoch: int, start: int = 0) -> list[list[int]]:
    """The images of each step over all ranks, sorted."""
    steps = zip(*(rank.epoch(epoch, start) for rank in batches), strict=True)
    return [sorted(torch.cat([batch.indices for batch in step]).tolist()) for step in steps]


def on_ranks(num_images: int, batch_size: int, world_size: int) -> list[ResidentBatches]:
    image_set = numbered_images(num_images)
    return [
        ResidentBatches(image_set, [num_images], settings(batch_size), Ranks(rank, world_size))
        for rank in range(world_size)
    ]


def settings(batch_size: int) -> BatchSettings:
    return BatchSettings(batch_size, seed=5, window=1000)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_an_epoch_has_each_image_once_on_any_number_of_ranks(world_size: int) -> None:
    steps = global_batches(on_ranks(101, 8, world_size), epoch=3)
    assert sorted(index for step in steps for index in step) == list(range(101))
    assert [len(step) for step in steps].count(7) == 3
    assert [len(step) for step in steps].count(8) == 10


@pytest.mark.parametrize("world_size", [2, 3, 4, 7])
def test_the_global_batches_do_not_depend_on_the_ranks(world_size: int) -> None:
    alone, shared = on_ranks(100, 16, 1), on_ranks(100, 16, world_size)
    assert global_batches(shared, epoch=2) == global_batches(alone, epoch=2)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_get_equal_shares_to_one_image(world_size: int) -> None:
    for batches in on_ranks(1000, 33, world_size):
        sizes = [len(batch) for batch in batches.epoch(1)]
        assert max(sizes) - min(sizes) <= 1


def test_each_epoch_has_another_order() -> None:
    batches = on_ranks(96, 8, 1)
    assert global_batches(batches, epoch=0) != global_batches(batches, epoch=1)


@pytest.mark.parametrize("start", [0, 1, 11, 13])
def test_entering_an_epoch_at_a_step_continues_it(start: int) -> None:
    batches = on_ranks(100, 8, 2)
    assert global_batches(batches, 4, start) == global_batches(batches, 4)[start:]


def test_a_batch_holds_the_images_it_names() -> None:
    (batch,) = ResidentBatches(numbered_images(16), [16], settings(16)).epoch(0)
    assert isinstance(batch, Batch)
    assert len(batch) == 16
    assert (batch.images == batch.indices.view(-1, 1, 1, 1)).all()
    assert torch.equal(batch.labels, batch.indices % 10)


@pytest.mark.parametrize("batch_size, world_size", [(2, 3), (6, 7), (8, 7)])
def test_a_batch_too_small_for_the_ranks_is_refused(batch_size: int, world_size: int) -> None:
    with pytest.raises(UserError, match=rf"cannot be shared by {world_size} ranks"):
        ResidentBatches(numbered_images(20), [20], settings(batch_size), Ranks(0, world_size))


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size is 32, but the split has only 20 images"):
        ResidentBatches(numbered_images(20), [20], settings(32))


@given(st.integers(1, 60), st.integers(1, 17), st.integers(1, 5))
def test_in_order_visits_each_image_exactly_once(num: int, batch_size: int, world: int) -> None:
    image_set = numbered_images(num)
    seen = [
        index
        for rank in range(world)
        for batch in in_order(image_set, batch_size, Ranks(rank, world))
        for index in batch.indices.tolist()
    ]
    assert sorted(seen) == list(range(num))


@given(st.integers(1, 60), st.integers(1, 17), st.integers(1, 5))
def test_in_order_keeps_the_order_within_a_rank(num: int, batch_size: int, world: int) -> None:
    batches = list(in_order(numbered_images(num), batch_size, Ranks(world - 1, world)))
    indices = [index for batch in batches for index in batch.indices.tolist()]
    assert indices == list(range(world - 1, num, world))
    assert all(0 < len(batch) <= batch_size for batch in batches)
