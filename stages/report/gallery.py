"""The gallery: which images it shows, and their pixels, read from the shards."""

import io
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.errors import StageError
from stages.data.manifest import Manifest, image_index
from stages.data.records import Record
from stages.data.shards import Images, read_samples, read_shard
from stages.report.model import Picture, PictureRow


def build_gallery(
    records: Sequence[Record], manifest: Manifest, data_dir: Path, split: str, size: int
) -> tuple[PictureRow, ...]:
    """Rows of up to `size` images each: proved furthest, only just proved, misclassified.

    A row that no image belongs to is left out; ties are broken by the image's key.

    Raises:
        StageError: a shard is damaged, or a row names an image that the split does not have.
    """
    certified = sorted(
        (record for record in records if record.certified), key=lambda row: (row.radius, row.key)
    )
    wrong = sorted(
        (record for record in records if not record.is_correct),
        key=lambda row: (_low(row), row.key),
    )
    rows = (
        ("Proved furthest", "the largest certified radii", certified[::-1][:size]),
        ("Only just proved", "the smallest certified radii beyond eps", certified[:size]),
        ("Misclassified", "wrong before any change, the lowest margins first", wrong[:size]),
    )
    chosen = {record.key for _, _, members in rows for record in members}
    pixels = _read_images(chosen, manifest, data_dir, split)
    return tuple(
        PictureRow(title, rule, tuple(_picture(row, pixels[row.key], manifest) for row in members))
        for title, rule, members in rows
        if members
    )


def _low(record: Record) -> float:
    return -math.inf if math.isnan(record.margin) else record.margin


def _read_images(
    keys: set[str], manifest: Manifest, data_dir: Path, split: str
) -> dict[str, Images]:
    """Pixels uint8 (H, W, C) by key; only the shards that hold one of the keys are read."""
    wanted = {image_index(key): key for key in keys}
    images = {}
    shards = manifest.split(split).shards
    for first, shard in zip(manifest.split(split).first_indices(), shards, strict=True):
        here = sorted(index for index in wanted if first <= index < first + shard.num_images)
        if not here:
            continue
        start = first
        for sample in read_samples(read_shard(data_dir, shard), shard, manifest.image_shape):
            stop = start + len(sample.images)
            for index in here:
                if start <= index < stop:
                    images[wanted[index]] = sample.images[index - start].copy()
            start = stop
    missing = sorted(keys - images.keys())
    if missing:
        raise StageError(
            f"the records name {missing[0]}, which split {split!r} of {data_dir} does not have; "
            "run the certify stage again on these shards"
        )
    return images


def _picture(record: Record, pixels: Images, manifest: Manifest) -> Picture:
    height, width, num_channels = pixels.shape
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if num_channels == 1 else pixels).save(
        buffer, "PNG", optimize=True
    )
    return Picture(
        key=record.key,
        label=manifest.classes[record.label],
        predicted=manifest.classes[record.predicted],
        margin=record.margin,
        radius=record.radius,
        width=width,
        height=height,
        png=buffer.getvalue(),
    )
