import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError, UserError
from pipeline.ranks import Ranks
from stages.data.batches import BatchSettings, ResidentBatches, TrainBatches
from stages.data.in_memory import load_split
from stages.data.manifest import Manifest
from stages.data.shuffling import LANES
from stages.data.streaming import StreamingBatches

WriteArtifact = Callable[..., tuple[Path, Manifest]]


def settings(batch_size: int = 16, window: int = 1000) -> BatchSettings:
    return BatchSettings(batch_size, seed=3, window=window)


def indices(batches: TrainBatches, epoch: int, start_step: int = 0) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches.epoch(epoch, start_step)]


@pytest.mark.parametrize("image_shape", [(4, 5, 1), (3, 4, 3)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("window", [5000, 2 * LANES, 1])
def test_streamed_batches_are_the_resident_ones(
    write_artifact: WriteArtifact, image_shape: tuple[int, int, int], world_size: int, window: int
) -> None:
    data_dir, manifest = write_artifact({"train": 2500}, image_shape, 64)
    images, sizes = load_split(data_dir, manifest, "train"), manifest.split("train").block_sizes()
    for rank in range(world_size):
        ranks, how = Ranks(rank, world_size), settings(130, window)
        resident = ResidentBatches(images, sizes, how, ranks)
        streamed = StreamingBatches(data_dir, manifest, "train", how, ranks)
        assert streamed.epoch_batches == resident.epoch_batches
        for epoch, start in ((0, 0), (1, 7)):
            pairs = zip(streamed.epoch(epoch, start), resident.epoch(epoch, start), strict=True)
            for one, other in pairs:
                assert one.images.is_contiguous()
                assert torch.equal(one.indices, other.indices)
                assert torch.equal(one.images, other.images)
                assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("start", [0, 1, 5, 7, 8])
@pytest.mark.parametrize("window", [1000, 1])
def test_entering_an_epoch_at_a_step_continues_it(
    write_artifact: WriteArtifact, start: int, window: int
) -> None:
    data_dir, manifest = write_artifact({"train": 125})
    batches = StreamingBatches(data_dir, manifest, "train", settings(16, window))
    assert indices(batches, 2, start) == indices(batches, 2)[start:]


def test_a_flipped_byte_stops_the_stream_and_names_the_shard(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None]
) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    flip_byte(data_dir / "train-000002.tar", 800)
    with pytest.raises(StageError, match=r"^shard .*train-000002\.tar is damaged: its sha256"):
        StreamingBatches(data_dir, manifest, "train", settings())


def test_each_shard_is_verified_by_one_rank(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None]
) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    flip_byte(data_dir / "train-000001.tar", 800)
    StreamingBatches(data_dir, manifest, "train", settings(), Ranks(0, 2))
    with pytest.raises(StageError, match=r"train-000001\.tar is damaged"):
        StreamingBatches(data_dir, manifest, "train", settings(), Ranks(1, 2))


def test_a_missing_shard_is_named_before_the_first_step(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    (data_dir / "train-000001.tar").unlink()
    with pytest.raises(StageError, match=r"train-000001\.tar cannot be read \(No such file"):
        StreamingBatches(data_dir, manifest, "train", settings())


def test_a_shard_that_vanishes_is_read_on_and_one_that_is_cut_is_named(
    write_artifact: WriteArtifact,
) -> None:
    data_dir, manifest = write_artifact({"train": 64})
    batches = StreamingBatches(data_dir, manifest, "train", settings())
    whole = indices(batches, 0)
    (data_dir / "train-000001.tar").unlink()
    assert indices(batches, 0) == whole
    os.truncate(data_dir / "train-000002.tar", 1000)
    with pytest.raises(StageError, match=r"train-000002\.tar has lost its end while"):
        indices(batches, 0)


def test_single_pictures_are_refused(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 20}, images_per_block=1)
    with pytest.raises(UserError, match="single pictures, which cannot be streamed"):
        StreamingBatches(data_dir, manifest, "train", settings())


def test_a_reader_that_leaves_early_leaves_no_thread(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 500})
    batches = StreamingBatches(data_dir, manifest, "train", settings(4, window=1))
    before = threading.active_count()
    epoch = batches.epoch(0)
    next(epoch)
    epoch.close()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and thread.daemon:
            thread.join(5)
    assert threading.active_count() <= before


def test_memory_stays_flat_over_epochs(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 6000}, (16, 16, 3), 256)
    batches = StreamingBatches(data_dir, manifest, "train", settings(200, window=LANES))
    peaks = []
    tracemalloc.start()
    for epoch in range(4):
        tracemalloc.reset_peak()
        for _ in batches.epoch(epoch):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    num_bytes = 6000 * 16 * 16 * 3
    assert max(peaks) < 0.75 * num_bytes  # two windows of 960 images and a few batches
    assert max(peaks[1:]) < 1.2 * peaks[0]
