"""What training reads: random batches to train on, and images in order to count and average."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from pipeline.ranks import Ranks
from stages.data.batches import Batch, BatchSettings, ResidentBatches, TrainBatches, in_order
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import Manifest, read_manifest
from stages.data.shard_cache import fetch_shards
from stages.data.shards import read_samples, read_shard
from stages.data.streaming import StreamingBatches
from stages.models.images import Normalisation
from stages.models.validation import BatchSource
from stages.train.config import Settings


@dataclass(frozen=True)
class TrainingData:
    """One rank's view of a shard artifact."""

    manifest: Manifest
    normalisation: Normalisation
    batches: TrainBatches
    """This rank's share of each global batch."""
    some_in_order: BatchSource
    """This rank's share of the first `means_images` training images, which the shards shuffled."""
    all_in_order: BatchSource
    """This rank's share of all training images."""
    validation: BatchSource
    """This rank's share of the validation split."""


def open_data(
    data_dir: Path, settings: Settings, ranks: Ranks, device: torch.device
) -> TrainingData:
    """Load the splits `train` and `validation` to the device, or make ready to stream them.

    Raises:
        UserError: the ranks cannot share a batch equally, or a batch exceeds the split.
        StageError: a split is missing or a shard damaged.
    """
    is_resident = settings.loader == "resident"
    manifest = read_manifest(data_dir)
    if settings.shards:
        wanted = [
            shard for name in ("train", "validation") for shard in manifest.split(name).shards
        ]
        data_dir = fetch_shards(settings.shards, wanted, ranks)
        dist.barrier()
    opened = _resident if is_resident else _streaming
    return opened(data_dir, manifest, settings, ranks, device)


def batch_settings(settings: Settings) -> BatchSettings:
    """The settings that decide which images a step sees."""
    return BatchSettings(settings.batch_size, settings.seed, settings.shuffle_window)


def _resident(
    data_dir: Path, manifest: Manifest, settings: Settings, ranks: Ranks, device: torch.device
) -> TrainingData:
    train = load_split(data_dir, manifest, "train", device)
    validation = load_split(data_dir, manifest, "validation", device)
    num_some = settings.validation.means_images
    some = ImageSet(train.split, train.images[:num_some], train.labels[:num_some])

    def source(images: ImageSet) -> BatchSource:
        return partial(in_order, images, settings.validation.batch_size, ranks)

    return TrainingData(
        manifest,
        Normalisation(manifest.mean, manifest.std),
        ResidentBatches(
            train, manifest.split("train").block_sizes(), batch_settings(settings), ranks
        ),
        some_in_order=source(some),
        all_in_order=source(train),
        validation=source(validation),
    )


def _streaming(
    data_dir: Path, manifest: Manifest, settings: Settings, ranks: Ranks, device: torch.device
) -> TrainingData:
    def source(split: str, limit: int | None = None) -> BatchSource:
        limit = manifest.split(split).num_images if limit is None else limit
        batch_size = settings.validation.batch_size
        return partial(
            shards_in_order, data_dir, manifest, split, limit, batch_size=batch_size, ranks=ranks
        )

    batches = StreamingBatches(
        data_dir, manifest, "train", batch_settings(settings), ranks, settings.num_threads
    )
    return TrainingData(
        manifest,
        Normalisation(manifest.mean, manifest.std),
        batches,
        some_in_order=source("train", settings.validation.means_images),
        all_in_order=source("train"),
        validation=source("validation"),
    )


def shards_in_order(
    data_dir: Path, manifest: Manifest, split: str, limit: int, batch_size: int, ranks: Ranks
) -> Iterator[Batch]:
    """This rank's shards of a split, one in memory at a time: over all ranks each image once.

    Args:
        data_dir: the shard stage's artifact.
        manifest: its manifest.
        split: name of the split.
        limit: images from here on are left out.
        batch_size: most images of a batch.
        ranks: rank r of R reads shards r, r + R, ...

    Raises:
        StageError: a shard is missing or damaged.
    """
    entry = manifest.split(split)
    shards = list(zip(entry.shards, entry.first_indices(), strict=True))
    for shard, first in shards[ranks.rank :: ranks.world_size]:
        num = min(shard.num_images, limit - first)
        if num <= 0:
            return
        content = read_shard(data_dir, shard)
        samples = list(read_samples(content, shard, manifest.image_shape))
        images = torch.from_numpy(np.concatenate([sample.images for sample in samples])[:num])
        labels = torch.from_numpy(np.concatenate([sample.labels for sample in samples])[:num])
        images = images.permute(0, 3, 1, 2).contiguous()
        for start in range(0, num, batch_size):
            rows = slice(start, min(start + batch_size, num))
            indices = torch.arange(first + rows.start, first + rows.stop)
            yield Batch(indices, images[rows], labels[rows])
