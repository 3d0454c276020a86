import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.ranks import Ranks
from stages.data.batches import Batch, ResidentBatches, in_order
from stages.data.resident import ImageSet


def numbered_images(num: int) -> ImageSet:
    """Images whose every pixel is their index."""
    images = torch.arange(num).view(num, 1, 1, 1).expand(num, 1, 2, 2).to(torch.uint8)
    return ImageSet("train", images, torch.arange(num) % 10)


def global_batches(batches: list[ResidentBatches], epoch: int, start: int = 0) -> list[list[int]]:
    """The images of each step over all ranks, in rank order."""
    steps = zip(*(rank.epoch(epoch, start) for rank in batches), strict=True)
    return [torch.cat([batch.indices for batch in step]).tolist() for step in steps]


def on_ranks(num_images: int, global_batch: int, world_size: int) -> list[ResidentBatches]:
    image_set = numbered_images(num_images)
    return [
        ResidentBatches(image_set, global_batch, seed=5, ranks=Ranks(rank, world_size))
        for rank in range(world_size)
    ]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_an_epoch_has_each_image_once_on_any_number_of_ranks(world_size: int) -> None:
    steps = global_batches(on_ranks(96, 8, world_size), epoch=3)
    assert len(steps) == 12
    assert sorted(index for step in steps for index in step) == list(range(96))


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_the_global_batches_do_not_depend_on_the_ranks(world_size: int) -> None:
    alone, shared = on_ranks(100, 8, 1), on_ranks(100, 8, world_size)
    assert global_batches(shared, epoch=2) == global_batches(alone, epoch=2)


def test_each_epoch_has_another_order() -> None:
    batches = on_ranks(96, 8, 1)
    assert global_batches(batches, epoch=0) != global_batches(batches, epoch=1)


@pytest.mark.parametrize("start", [0, 1, 11, 12])
def test_entering_an_epoch_at_a_step_continues_it(start: int) -> None:
    batches = on_ranks(100, 8, 2)
    assert global_batches(batches, 4, start) == global_batches(batches, 4)[start:]


def test_a_batch_holds_the_images_it_names() -> None:
    (batch,) = ResidentBatches(numbered_images(20), 16, seed=0).epoch(0)
    assert isinstance(batch, Batch)
    assert len(batch) == 16
    assert (batch.images == batch.indices.view(-1, 1, 1, 1)).all()
    assert torch.equal(batch.labels, batch.indices % 10)


def test_the_last_incomplete_batch_is_other_images_in_every_epoch() -> None:
    (batches,) = on_ranks(20, 16, 1)
    left_out = [
        frozenset(range(20)) - set(global_batches([batches], epoch)[0]) for epoch in range(6)
    ]
    assert batches.steps_per_epoch == 1
    assert all(len(images) == 4 for images in left_out)
    assert len(set(left_out)) > 1


def test_ranks_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match="batch_size 9 cannot be shared equally by 2 ranks"):
        ResidentBatches(numbered_images(20), 9, seed=0, ranks=Ranks(0, 2))


def test_a_batch_larger_than_the_split_is_refused() -> None:
    with pytest.raises(UserError, match="batch_size is 32, but the train split has only 20"):
        ResidentBatches(numbered_images(20), 32, seed=0)


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
