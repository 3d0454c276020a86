import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.shard.plan import plan_shards, plan_splits


@given(st.integers(1, 500), st.integers(0, 50), st.integers(0, 2**32), st.data())
def test_each_training_image_is_in_train_or_validation(
    num_train: int, num_test: int, seed: int, data: st.DataObject
) -> None:
    held_back = data.draw(st.integers(0, num_train - 1))
    splits = plan_splits(num_train, num_test, held_back, seed)
    of_train = [positions for source, positions in splits.values() if source == "train"]
    assert sorted(np.concatenate(of_train).tolist()) == list(range(num_train))
    assert len(splits["train"][1]) == num_train - held_back


def test_test_images_keep_their_published_order() -> None:
    source_split, positions = plan_splits(100, 5, 10, seed=3)["test"]
    assert (source_split, positions.tolist()) == ("test", [0, 1, 2, 3, 4])


def test_no_validation_images_make_no_validation_split() -> None:
    assert list(plan_splits(100, 5, 0, seed=3)) == ["train", "test"]


def test_the_seed_decides_which_images_are_held_back() -> None:
    first, second, again = (plan_splits(100, 5, 10, seed)["validation"][1] for seed in (1, 2, 1))
    assert first.tolist() != second.tolist()
    assert first.tolist() == again.tolist()


@given(
    num=st.integers(1, 3000),
    images_per_block=st.integers(1, 300),
    image_bytes=st.integers(1, 1000),
    shard_bytes=st.integers(1, 200_000),
)
def test_shards_are_whole_blocks_in_order_and_as_equal_as_can_be(
    num: int, images_per_block: int, image_bytes: int, shard_bytes: int
) -> None:
    positions = np.arange(num) + 7
    plans = plan_shards("train", "train", positions, images_per_block, image_bytes, shard_bytes)
    assert np.concatenate([plan.positions for plan in plans]).tolist() == positions.tolist()
    blocks = [block for plan in plans for block in plan.blocks()]
    assert [start for start, _ in blocks] == list(range(0, num, images_per_block))
    assert all(len(block) == images_per_block for _, block in blocks[:-1])
    num_blocks = [len(plan.blocks()) for plan in plans]
    assert max(num_blocks) - min(num_blocks) <= 1
    most_bytes = max(shard_bytes, images_per_block * image_bytes)
    assert all(len(plan.positions) * image_bytes <= most_bytes for plan in plans)


def test_shards_are_numbered_by_split() -> None:
    plans = plan_shards("validation", "train", np.arange(20), 4, 10, 80)
    assert [plan.name for plan in plans] == [f"validation-00000{i}.tar" for i in range(3)]
    assert [plan.first_index for plan in plans] == [0, 4, 12]
