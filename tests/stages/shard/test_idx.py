import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset, PublishedFile
from stages.shard.source import SourceContext, open_source

Toy = Callable[..., Dataset]
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    """Six training and three test images in the four files; the images plain, the labels .gz."""
    folder = tmp_path / "source"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for prefix, num in (("train", 6), ("t10k", 3)):
        images = generator.integers(0, 256, (num, 28, 28))
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        labels = gzip.compress(idx_bytes(np.arange(num)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(labels)
    return folder


def test_images_and_labels_come_out_as_they_went_in(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    source = open_source(toy("fashion_mnist"), source_dir, source_context)
    pixels = np.frombuffer((source_dir / TRAIN_IMAGES).read_bytes(), np.uint8, offset=16)
    train = source.splits["train"]
    assert source.image_shape == (28, 28, 1)
    assert source.classes[9] == "Ankle boot"
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert source.splits["test"].labels.tolist() == [0, 1, 2]
    images = train.read_images(np.array([4, 0]))
    assert (images == pixels.reshape(6, 28, 28, 1)[[4, 0]]).all()


def test_the_checksums_of_sources_are_those_of_their_contents(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    source = open_source(toy("mnist"), source_dir, source_context)
    expected = hashlib.sha256(idx_bytes(np.arange(6))).hexdigest()
    assert {file.name: file.sha256 for file in source.files}[TRAIN_LABELS] == expected


def test_a_missing_folder_says_how_to_fetch(
    tmp_path: Path, toy: Toy, source_context: SourceContext
) -> None:
    with pytest.raises(UserError, match=r"does not exist; .* `python -m pipeline fetch mnist"):
        open_source(toy("mnist"), tmp_path / "absent", source_context)


def test_a_missing_file_says_how_to_fetch(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    (source_dir / TRAIN_IMAGES).unlink()
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte is missing; fetch it with"):
        open_source(toy("mnist"), source_dir, source_context)


def test_files_in_a_folder_below_are_pointed_at(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    with pytest.raises(UserError, match=f"set `source: {source_dir}`, where one lies"):
        open_source(toy("mnist"), source_dir.parent, source_context)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (
            TRAIN_IMAGES,
            lambda data: b"\x00\x00\x09" + data[3:],
            "starts with 00 00 09 03, not with",
        ),
        (TRAIN_IMAGES, lambda data: data[:-1], "promises 4,720 bytes, it has 4,719"),
        (TRAIN_IMAGES, lambda data: data + b"0", "promises 4,720 bytes, it has 4,721"),
        (TRAIN_IMAGES, lambda data: data[:9], "ends inside its header"),
        (TRAIN_IMAGES, lambda data: b"", "starts with , not with 00 00 08 03"),
        (
            TRAIN_IMAGES,
            lambda _: idx_bytes(np.zeros((6, 28, 27))),
            "images are 28 x 27, not 28 x 28",
        ),
        (TRAIN_IMAGES, lambda _: idx_bytes(np.zeros((5, 28, 28))), "has 6 labels, .* has 5 images"),
        (f"{TRAIN_LABELS}.gz", lambda data: data[:-9], "cannot be read"),
        (f"{TRAIN_LABELS}.gz", lambda data: b"<html>" + data, "cannot be read: Not a gzipped file"),
        (f"{TRAIN_LABELS}.gz", lambda data: data[:12] + b"\x55" + data[13:], "cannot be read"),
        (
            f"{TRAIN_LABELS}.gz",
            lambda _: gzip.compress(idx_bytes(np.array([0, 1, 2, 10, 4, 11]))),
            "label 10 of image 3 is no class number from 0 to 9",
        ),
    ],
)
def test_a_damaged_file_is_named_with_its_fault(
    toy: Toy,
    source_dir: Path,
    source_context: SourceContext,
    name: str,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = source_dir / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StageError, match=message) as caught:
        open_source(toy("mnist"), source_dir, source_context)
    assert "fetch it again" in str(caught.value)
    assert name.removesuffix(".gz") in str(caught.value)


def test_one_changed_pixel_is_not_the_published_file(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    content = (source_dir / TRAIN_IMAGES).read_bytes()
    published = PublishedFile(TRAIN_IMAGES, f"sha256:{hashlib.sha256(content).hexdigest()}")
    dataset = toy("mnist", train_files=(published, PublishedFile(TRAIN_LABELS)))
    open_source(dataset, source_dir, source_context)
    (source_dir / TRAIN_IMAGES).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(StageError, match="its content is not the published one"):
        open_source(dataset, source_dir, source_context)


def test_a_wrong_number_of_images_is_named(
    toy: Toy, source_dir: Path, source_context: SourceContext
) -> None:
    with pytest.raises(StageError, match="holds 6 train images, but MNIST has 60,000"):
        open_source(toy("mnist", num_train_images=60_000), source_dir, source_context)
