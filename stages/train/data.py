"""What training reads: random batches to train on, and images in order to count and average."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.ranks import Ranks
from stages.data.batches import Batch, ResidentBatches, TrainBatches, in_order
from stages.data.manifest import Manifest, read_manifest
from stages.data.resident import ImageSet, load_split
from stages.models.normalisation import Normalisation
from stages.train.config import Settings
from stages.train.validation import BatchSource


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
    """Load or open the splits `train` and `validation`.

    Raises:
        UserError: the ranks cannot share a batch equally, or a batch exceeds the split.
        StageError: a split is missing or a shard damaged.
    """
    manifest = read_manifest(data_dir)
    train = load_split(data_dir, manifest, "train", device)
    validation = load_split(data_dir, manifest, "validation", device)
    batch_size = settings.validation.batch_size

    def source(images: ImageSet) -> BatchSource:
        def batches() -> Iterator[Batch]:
            return in_order(images, batch_size, ranks)

        return batches

    return TrainingData(
        manifest,
        Normalisation(manifest.mean, manifest.std),
        ResidentBatches(train, settings.batch_size, settings.seed, ranks),
        source(_first(train, settings.validation.means_images)),
        source(train),
        source(validation),
    )


def _first(images: ImageSet, num: int) -> ImageSet:
    return ImageSet(images.split, images.images[:num], images.labels[:num])
