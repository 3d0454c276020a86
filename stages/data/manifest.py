"""The manifest of a shard artifact: what lies in which tar file, and how images are named."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, write_atomic

MANIFEST_NAME = "manifest.json"
AGAIN = "run the shard stage again with --force"

PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.tar$")]
"""A file name that can be nothing else: webdataset would run `pipe:...` as a command."""


class Block(FrozenModel):
    """Images stored as one tar member, their labels as the next."""

    key: str
    """Name of the first image, and of the two members."""
    num_images: int
    images_offset: int
    """Where in the tar the pixels start: uint8 (num_images, H, W, C), C order."""
    labels_offset: int
    """Where in the tar the labels start: little-endian int64 (num_images,)."""


class Shard(FrozenModel):
    """One tar file."""

    name: PlainName
    num_images: int
    num_bytes: int
    sha256: str
    blocks: tuple[Block, ...]
    """Empty in a shard of single pictures (`<key>.png`, `<key>.cls`)."""

    @model_validator(mode="after")
    def _blocks_add_up(self) -> Self:
        if self.blocks and sum(block.num_images for block in self.blocks) != self.num_images:
            raise ValueError(f"the blocks of {self.name} do not add up to {self.num_images} images")
        return self


class Split(FrozenModel):
    """The shards of `train`, `validation` or `test`, in the order that numbers the images."""

    num_images: int
    shards: tuple[Shard, ...]

    @model_validator(mode="after")
    def _shards_add_up(self) -> Self:
        if sum(shard.num_images for shard in self.shards) != self.num_images:
            raise ValueError(f"the shards do not add up to {self.num_images} images")
        return self

    def block_sizes(self) -> tuple[int, ...]:
        """Return each block's images, in order; a shard of single pictures is one block."""
        return tuple(
            size
            for shard in self.shards
            for size in [block.num_images for block in shard.blocks] or [shard.num_images]
        )

    def first_indices(self) -> tuple[int, ...]:
        """Return for each shard the index in the split of its first image."""
        firsts, total = [], 0
        for shard in self.shards:
            firsts.append(total)
            total += shard.num_images
        return tuple(firsts)


class SourceFile(FrozenModel):
    """A file, or a tree of files, that the images were read from."""

    name: str
    sha256: str
    """Of the content (uncompressed); for a tree, of the sorted lines `<path> <sha256>`."""


class Manifest(FrozenModel):
    """Everything that a reader of the shards must know."""

    dataset: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    mean: tuple[float, ...]
    """Channel means, pixels in [0, 1]."""
    std: Annotated[float, Field(gt=0)]
    """The one standard deviation that divides all channels."""
    seed: int
    images_per_block: int
    sources: tuple[SourceFile, ...]
    splits: dict[str, Split]

    def split(self, name: str) -> Split:
        """Return the split of that name.

        Raises:
            StageError: there is none.
        """
        if name not in self.splits:
            raise StageError(
                f"the shards of {self.dataset} have no split {name!r}, only "
                f"{', '.join(self.splits)}; a validation split needs `validation_images` in the "
                "shard stage"
            )
        return self.splits[name]


def image_key(split: str, index: int) -> str:
    """Return an image's name, which is its split and its position there: `test-000123`."""
    return f"{split}-{index:06d}"


def image_index(key: str) -> int:
    """Return the position in its split of the image named `key`."""
    return int(key.rpartition("-")[2])


def write_manifest(data_dir: Path, manifest: Manifest) -> None:
    """Write `manifest.json` into a folder, whole or not at all."""
    write_atomic(data_dir / MANIFEST_NAME, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(data_dir: Path) -> Manifest:
    """Read the `manifest.json` of a shard artifact.

    Raises:
        StageError: it is missing, damaged, or contradicts itself.
    """
    return read_json(data_dir / MANIFEST_NAME, Manifest, AGAIN)
