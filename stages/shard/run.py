"""The shard stage: raw image files to checksummed WebDataset shards and their manifest."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.execution.context import Context
from stages.data.catalogue import CATALOGUE
from stages.data.dataset import Dataset
from stages.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Shard,
    Split,
    image_key,
    write_manifest,
)
from stages.data.shards import (
    Sample,
    read_samples,
    read_shard,
    write_block_shard,
    write_picture_shard,
)
from stages.shard.config import Settings
from stages.shard.metrics import IMAGES, SHARDS
from stages.shard.plan import ShardPlan, plan_shards, plan_splits
from stages.shard.source import Source, SourceContext, open_source
from stages.shard.statistics import mean_and_std, pixel_histogram

_SCRATCH_PREFIX = ".scratch-"


def run(context: Context, settings: Settings) -> None:
    """Read the source, shuffle and split it, write shards and manifest into the stage's folder."""
    shard_dataset(context, settings, CATALOGUE[settings.dataset])


def shard_dataset(context: Context, settings: Settings, dataset: Dataset) -> None:
    """`run` for a dataset that need not be in the catalogue."""
    _remove_leftovers(context.output_dir)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH_PREFIX, dir=context.output_dir) as scratch:
        source = open_source(
            dataset, settings.source_dir, SourceContext(Path(scratch), context.track)
        )
        plans = _plan(source, settings)
        shards = _write_shards(context, source, plans, settings.num_workers)
    splits = {
        name: _split(
            [shard for plan, shard in zip(plans, shards, strict=True) if plan.split == name]
        )
        for name in dict.fromkeys(plan.split for plan in plans)
    }
    mean, std = dataset.mean, dataset.std
    if mean is None or std is None:
        mean, std = _measured_mean_and_std(context.output_dir, source, splits["train"])
    manifest = Manifest(
        dataset=dataset.name,
        classes=source.classes,
        image_shape=source.image_shape,
        mean=mean,
        std=std,
        seed=settings.seed,
        images_per_block=settings.images_per_block,
        sources=source.files,
        splits=splits,
    )
    write_manifest(context.output_dir, manifest)
    counts = ", ".join(f"{name} {split.num_images:,}" for name, split in splits.items())
    context.say(f"{dataset.title}: {counts} images in {len(shards)} shards")


def _remove_leftovers(output_dir: Path) -> None:
    """Remove what an earlier attempt left that was killed half-way: sharding begins anew."""
    for pattern in ("*.tar", ".*.tmp", MANIFEST_NAME):
        for leftover in output_dir.glob(pattern):
            leftover.unlink()
    for folder in output_dir.glob(f"{_SCRATCH_PREFIX}*"):
        shutil.rmtree(folder)


def _plan(source: Source, settings: Settings) -> list[ShardPlan]:
    num_train = len(source.splits["train"].labels)
    if settings.validation_images >= num_train:
        raise UserError(
            f"validation_images is {settings.validation_images:,}, but {settings.source_dir} has "
            f"only {num_train:,} training images; hold back fewer"
        )
    num_test = len(source.splits["test"].labels)
    splits = plan_splits(num_train, num_test, settings.validation_images, settings.seed)
    image_bytes = int(np.prod(source.image_shape))
    return [
        plan
        for split, (source_split, positions) in splits.items()
        for plan in plan_shards(
            split,
            source_split,
            positions,
            settings.images_per_block,
            image_bytes,
            settings.shard_bytes,
        )
    ]


def _write_shards(
    context: Context, source: Source, plans: list[ShardPlan], num_workers: int | None
) -> list[Shard]:
    num_images = sum(len(plan.positions) for plan in plans)
    shards = []
    pool = ThreadPoolExecutor(num_workers or len(os.sched_getaffinity(0)))
    try:
        with context.track("images", num_images, "images") as progress:
            written = pool.map(lambda plan: _write_shard(context.output_dir, source, plan), plans)
            for plan, shard in zip(plans, written, strict=True):
                shards.append(shard)
                context.metrics.add(SHARDS, split=plan.split)
                context.metrics.add(IMAGES, shard.num_images, split=plan.split)
                progress.advance(shard.num_images)
    finally:
        pool.shutdown(cancel_futures=True)
    return shards


def _write_shard(output_dir: Path, source: Source, plan: ShardPlan) -> Shard:
    split = source.splits[plan.source_split]

    def samples() -> Iterator[Sample]:
        for first_index, positions in plan.blocks():
            key = image_key(plan.split, first_index)
            yield Sample(key, split.read_images(positions), split.labels[positions])

    write = write_picture_shard if plan.images_per_block == 1 else write_block_shard
    return write(output_dir / plan.name, samples())


def _split(shards: list[Shard]) -> Split:
    return Split(num_images=sum(shard.num_images for shard in shards), shards=tuple(shards))


def _measured_mean_and_std(
    data_dir: Path, source: Source, train: Split
) -> tuple[tuple[float, ...], float]:
    histogram = np.zeros((source.image_shape[2], 256), np.int64)
    for shard in train.shards:
        for sample in read_samples(read_shard(data_dir, shard), shard, source.image_shape):
            histogram += pixel_histogram(sample.images)
    return mean_and_std(histogram)
