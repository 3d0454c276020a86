"""Writer and reader of shards: WebDataset tar files that are the same bytes for the same images.

A sample is a block of images, `<key>.images.npy` uint8 (n, H, W, C) with `<key>.labels.npy` int64
(n,), or one picture, `<key>.png` with `<key>.cls`. One tar member costs a reader about 40
microseconds whatever it holds, so blocks of 256 are read some hundred times faster than pictures.
"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import StageError
from pipeline.files import temporary_path
from stages.data.manifest import AGAIN, Block, Shard

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Sample:
    """Consecutive images of a split; `key` names the first."""

    key: str
    images: Images
    """(n, H, W, C)"""
    labels: Labels
    """(n,)"""


def write_block_shard(path: Path, samples: Iterable[Sample]) -> Shard:
    """Write a shard of blocks; the file appears under its name once it is whole."""
    blocks = []
    with _TarWriter(path) as tar:
        for sample in samples:
            images_offset = tar.add_array(f"{sample.key}.images.npy", sample.images)
            labels_offset = tar.add_array(f"{sample.key}.labels.npy", sample.labels.astype("<i8"))
            blocks.append(
                Block(
                    key=sample.key,
                    num_images=len(sample.labels),
                    images_offset=images_offset,
                    labels_offset=labels_offset,
                )
            )
    return tar.shard(sum(block.num_images for block in blocks), tuple(blocks))


def write_picture_shard(path: Path, samples: Iterable[Sample]) -> Shard:
    """Write a shard of single PNG pictures; every sample must hold one image."""
    num_images = 0
    with _TarWriter(path) as tar:
        for sample in samples:
            (image,), (label,) = sample.images, sample.labels
            picture = io.BytesIO()
            Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(picture, "PNG")
            tar.add(f"{sample.key}.png", picture.getvalue())
            tar.add(f"{sample.key}.cls", str(label).encode())
            num_images += 1
    return tar.shard(num_images, ())


def read_shard(data_dir: Path, shard: Shard) -> bytearray:
    """Read a whole shard and verify its checksum.

    Raises:
        StageError: the file is missing, unreadable, or not the bytes that the manifest promises.
    """
    path = data_dir / shard.name
    try:
        content = bytearray(path.stat().st_size)
        with path.open("rb", buffering=0) as file:
            num_read = _read_into(file, content)
    except OSError as error:
        raise StageError(f"shard {path} cannot be read ({error.strerror}); {AGAIN}") from error
    _refuse_damage(path, shard, num_read, hashlib.sha256(content).hexdigest())
    return content


def verify_shard(data_dir: Path, shard: Shard) -> None:
    """Verify the checksum of a shard without keeping it in memory.

    Raises:
        StageError: as `read_shard`.
    """
    path = data_dir / shard.name
    try:
        num_bytes, sha256 = _size_and_sha256(path)
    except OSError as error:
        raise StageError(f"shard {path} cannot be read ({error.strerror}); {AGAIN}") from error
    _refuse_damage(path, shard, num_bytes, sha256)


def read_samples(
    content: bytearray, shard: Shard, image_shape: tuple[int, int, int]
) -> Iterator[Sample]:
    """Yield the samples of a shard whose content `read_shard` has verified.

    Blocks are views of the content, found by the manifest's offsets; pictures are decoded.
    """
    if not shard.blocks:
        yield from _read_pictures(content, shard, image_shape)
    for block in shard.blocks:
        count = block.num_images * int(np.prod(image_shape))
        images = np.frombuffer(content, np.uint8, count, block.images_offset)
        labels = np.frombuffer(content, "<i8", block.num_images, block.labels_offset)
        yield Sample(block.key, images.reshape(block.num_images, *image_shape), labels)


def _size_and_sha256(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_damage(path: Path, shard: Shard, num_bytes: int, sha256: str) -> None:
    if num_bytes != shard.num_bytes:
        raise StageError(
            f"shard {path} is damaged: it has {num_bytes:,} bytes, the manifest says "
            f"{shard.num_bytes:,}; {AGAIN}"
        )
    if sha256 != shard.sha256:
        raise StageError(
            f"shard {path} is damaged: its sha256 is not the manifest's ({shard.sha256[:12]}...); "
            f"{AGAIN}"
        )


def _read_pictures(
    content: bytearray, shard: Shard, image_shape: tuple[int, int, int]
) -> Iterator[Sample]:
    key, num_images = "", 0
    images = np.empty((0, *image_shape), np.uint8)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None, f"{shard.name} holds {member.name}, which is no file"
            stem, _, extension = member.name.partition(".")
            if extension == "png":
                key = stem
                images = np.array(Image.open(file)).reshape(1, *image_shape)
            else:
                assert stem == key, f"{shard.name}: {member.name} comes before its picture"
                num_images += 1
                yield Sample(key, images, np.array([int(file.read())], np.int64))
    if num_images != shard.num_images:
        raise StageError(
            f"shard {shard.name} holds {num_images:,} pictures, the manifest says "
            f"{shard.num_images:,}; {AGAIN}"
        )


def _read_into(file: io.RawIOBase | io.FileIO, content: bytearray) -> int:
    view, done = memoryview(content), 0
    while done < len(content):
        count = file.readinto(view[done:])
        if not count:
            break
        done += count
    return done


class _TarWriter:
    """Writes a USTAR file without times or owners, and gives it its name once it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, temporary_path(path)

    def __enter__(self) -> "_TarWriter":
        self._tar = tarfile.open(self._partial, "w", format=tarfile.USTAR_FORMAT)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._tar.close()
            self._num_bytes, self._sha256 = _size_and_sha256(self._partial)
            self._partial.replace(self._path)
        else:
            assert self._tar.fileobj is not None
            self._tar.fileobj.close()
            self._partial.unlink(missing_ok=True)

    def add(self, name: str, content: bytes) -> int:
        """Add a member and return the offset of its content in the tar."""
        member = tarfile.TarInfo(name)  # mtime 0, owner 0:0 without a name, mode 0644
        member.size = len(content)
        offset = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(member, io.BytesIO(content))
        return offset

    def add_array(self, name: str, array: NDArray[np.generic]) -> int:
        """Add an array as .npy and return the offset of its first element in the tar."""
        npy = io.BytesIO()
        np.lib.format.write_array(npy, np.ascontiguousarray(array), (1, 0), allow_pickle=False)
        return self.add(name, npy.getvalue()) + npy.tell() - array.nbytes

    def shard(self, num_images: int, blocks: tuple[Block, ...]) -> Shard:
        """Return the manifest's entry for the finished file."""
        return Shard(
            name=self._path.name,
            num_images=num_images,
            num_bytes=self._num_bytes,
            sha256=self._sha256,
            blocks=blocks,
        )
