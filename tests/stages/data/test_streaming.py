from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError, UserError
from pipeline.ranks import Ranks
from stages.data.batches import TrainBatches
from stages.data.manifest import Manifest
from stages.data.resident import load_split
from stages.data.streaming import StreamingBatches

WriteArtifact = Callable[..., tuple[Path, Manifest]]


def indices(batches: TrainBatches, epoch: int, start_step: int = 0) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches.epoch(epoch, start_step)]


@pytest.mark.parametrize("images_per_block", [8, 1])
@pytest.mark.parametrize("image_shape", [(4, 5, 1), (3, 4, 3)])
def test_streamed_images_are_those_of_the_resident_split(
    write_artifact: WriteArtifact, image_shape: tuple[int, int, int], images_per_block: int
) -> None:
    data_dir, manifest = write_artifact({"train": 64}, image_shape, images_per_block)
    resident = load_split(data_dir, manifest, "train")
    batches = list(StreamingBatches(data_dir, manifest, "train", 16, seed=0).epoch(0))
    assert sorted(i for batch in batches for i in batch.indices.tolist()) == list(range(64))
    for batch in batches:
        assert batch.images.is_contiguous()
        assert torch.equal(batch.images, resident.images[batch.indices])
        assert torch.equal(batch.labels, resident.labels[batch.indices])


def test_images_are_mixed_across_shards_and_differently_each_epoch(
    write_artifact: WriteArtifact,
) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    batches = StreamingBatches(data_dir, manifest, "train", 16, seed=0)
    first = indices(batches, 0)
    assert len({index // 16 for index in first[0]}) > 1
    assert indices(batches, 0) == first
    assert indices(batches, 1) != first


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_make_equally_many_steps_and_share_no_image(
    write_artifact: WriteArtifact, world_size: int
) -> None:
    data_dir, manifest = write_artifact({"train": 125})  # 8 shards, the last one short
    for epoch in range(4):
        seen: list[int] = []
        for rank in range(world_size):
            batches = StreamingBatches(
                data_dir, manifest, "train", 6, seed=0, ranks=Ranks(rank, world_size)
            )
            steps = indices(batches, epoch)
            assert len(steps) == batches.steps_per_epoch
            assert all(len(step) == 6 // world_size for step in steps)
            seen += [index for step in steps for index in step]
        assert len(set(seen)) == len(seen) == batches.steps_per_epoch * 6


def test_what_is_left_out_changes_from_epoch_to_epoch(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 112})  # 7 shards for 2 ranks
    ranks = [
        StreamingBatches(data_dir, manifest, "train", 8, seed=0, ranks=Ranks(rank, 2))
        for rank in range(2)
    ]
    left_out = [
        frozenset(range(112)) - {i for rank in ranks for step in indices(rank, epoch) for i in step}
        for epoch in range(5)
    ]
    assert all(len(images) == 16 for images in left_out)
    assert len(set(left_out)) > 1


@pytest.mark.parametrize("start", [1, 4, 5, 8])
def test_entering_an_epoch_at_a_step_continues_it(
    write_artifact: WriteArtifact, start: int
) -> None:
    data_dir, manifest = write_artifact({"train": 128})
    batches = StreamingBatches(data_dir, manifest, "train", 16, seed=3)
    assert indices(batches, 2, start) == indices(batches, 2)[start:]


def test_workers_share_the_shards_and_resume_at_any_step(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 128})
    batches = StreamingBatches(data_dir, manifest, "train", 16, seed=3, num_workers=2)
    steps = indices(batches, 0)
    assert len(steps) == batches.steps_per_epoch == 8
    assert sorted(index for step in steps for index in step) == list(range(128))
    assert indices(batches, 0, 3) == steps[3:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_flipped_byte_stops_the_stream_and_names_the_shard(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None], num_workers: int
) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    flip_byte(data_dir / "train-000002.tar", 800)
    batches = StreamingBatches(data_dir, manifest, "train", 16, 0, num_workers=num_workers)
    with pytest.raises(StageError, match=r"^shard .*train-000002\.tar is damaged: its sha256") as e:
        list(batches.epoch(0))
    assert "Traceback" not in str(e.value)


def test_a_damaged_shard_is_named_even_among_steps_passed_over(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None]
) -> None:
    data_dir, manifest = write_artifact({"train": 128})
    for shard in manifest.split("train").shards:
        flip_byte(data_dir / shard.name, 800)
    batches = StreamingBatches(data_dir, manifest, "train", 16, 0, num_workers=2)
    with pytest.raises(StageError, match="is damaged"):
        list(batches.epoch(0, start_step=1))


def test_too_few_shards_for_the_readers_are_refused(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    with pytest.raises(UserError, match=r"2 ranks with 3 readers each needs 6 shards, .* has 4"):
        StreamingBatches(data_dir, manifest, "train", 2, 0, ranks=Ranks(0, 2), num_workers=3)


def test_a_share_smaller_than_a_batch_is_refused(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    with pytest.raises(UserError, match="less than its 32 images of a batch of 64"):
        StreamingBatches(data_dir, manifest, "train", 64, 0, ranks=Ranks(1, 2), num_workers=2)


def test_a_large_pool_is_cut_into_whole_batches(
    write_artifact: WriteArtifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.data.streaming.POOL_IMAGES", 20)
    data_dir, manifest = write_artifact({"train": 128})
    steps = indices(StreamingBatches(data_dir, manifest, "train", 12, seed=0), 0)
    assert [len(step) for step in steps] == [12] * 10
    assert len({index for step in steps for index in step}) == 120
