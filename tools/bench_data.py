"""`supnorm bench-data CONFIG`: how many images a second each loader gives.

The same images with the same augmentation, up to the batch that a network takes, in one run:
resident, streaming, and torchvision's ImageFolder with a DataLoader for comparison.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from pipeline.execution.runner import refuse_stale_inputs
from pipeline.ranks import Ranks
from pipeline.selection import Selection, over_pipeline
from stages.data.augment import augment
from stages.data.batches import ResidentBatches, TrainBatches
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import Manifest, read_manifest
from stages.data.streaming import StreamingBatches
from stages.models.images import Normalisation
from stages.train.config import Settings
from stages.train.data import batch_settings

SECONDS = 4.0
"""How long each loader runs, after its first batches."""
WARM_UP_BATCHES = 3
FOLDER_IMAGES = 8192
"""Images written as PNG for ImageFolder, so that its disk reads come from the page cache too."""


@over_pipeline
def bench_data(selection: Selection) -> None:
    """Print the images a second of each loader alone, for the first train stage."""
    spec, (name, *_) = replace(selection, kind="train").load()
    refuse_stale_inputs(spec, selection.runs / spec.name, [name])
    stage = spec.stage(name)
    assert isinstance(stage.settings, Settings)
    print_rates(selection.runs / spec.name / stage.inputs["data"], stage.settings)


def print_rates(data_dir: Path, settings: Settings) -> None:
    """Measure the three loaders and print a line for each."""
    manifest = read_manifest(data_dir)
    images = load_split(data_dir, manifest, "train")
    how, sizes = batch_settings(settings), manifest.split("train").block_sizes()
    resident = ResidentBatches(images, sizes, how)
    streaming = StreamingBatches(data_dir, manifest, "train", how, Ranks(), settings.num_threads)
    rates = {
        "resident": rate(_endless(resident, manifest, settings)),
        "streaming": rate(_endless(streaming, manifest, settings)),
    }
    with tempfile.TemporaryDirectory(prefix="supnorm-benchmark-") as folder:
        write_pictures(Path(folder), images)
        rates["ImageFolder + DataLoader"] = rate(_torchvision(Path(folder), manifest, settings))
    base = rates["ImageFolder + DataLoader"]
    height, width, channels = manifest.image_shape
    print(f"{manifest.dataset}, {height} x {width} x {channels}, batches of {settings.batch_size}:")
    for name, images_per_s in rates.items():
        print(f"  {name:25} {images_per_s:12,.0f} images/s {images_per_s / base:8.1f} x")


def rate(batches: Iterator[Tensor]) -> float:
    """Images a second of an endless loader, its start left out."""
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    start, num_images = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        num_images += len(next(batches))
    return num_images / elapsed


def write_pictures(folder: Path, images: ImageSet) -> None:
    """The first images as `<class>/<index>.png`, as ImageFolder reads them."""
    for index in range(min(FOLDER_IMAGES, len(images))):
        place = folder / f"{int(images.labels[index]):04d}"
        place.mkdir(exist_ok=True)
        pixels = images.images[index].permute(1, 2, 0).numpy()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
            place / f"{index}.png"
        )


def _endless(batches: TrainBatches, manifest: Manifest, settings: Settings) -> Iterator[Tensor]:
    """Augmented, normalised batches of one epoch after another."""
    normalisation = Normalisation(manifest.mean, manifest.std)
    for epoch in count():
        for batch in batches.epoch(epoch):
            moved = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            yield normalisation.apply(moved)


def _torchvision(folder: Path, manifest: Manifest, settings: Settings) -> Iterator[Tensor]:
    """The same with torchvision: decode, shift, flip, normalise, one image at a time."""
    from torchvision.datasets import ImageFolder  # noqa: PLC0415  only this comparison needs it
    from torchvision.transforms import v2  # noqa: PLC0415

    mode = "L" if manifest.image_shape[2] == 1 else "RGB"

    def read(path: str) -> Image.Image:
        with Image.open(path) as picture:
            return picture.convert(mode)

    how = settings.augment
    fill = {"edge": "edge", "zero": "constant"}[how.pad_mode]
    steps: list[Any] = [
        v2.RandomCrop(manifest.image_shape[:2], how.crop_padding or None, padding_mode=fill),
        *([v2.RandomHorizontalFlip()] if how.flip else []),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(manifest.mean, [manifest.std] * len(manifest.mean)),
    ]
    dataset = ImageFolder(str(folder), v2.Compose(steps), loader=read)
    loader: Iterable[list[Tensor]] = DataLoader(
        dataset,
        settings.batch_size,
        shuffle=True,
        num_workers=len(os.sched_getaffinity(0)),
        persistent_workers=True,
    )
    while True:
        for images, _ in loader:
            yield images
