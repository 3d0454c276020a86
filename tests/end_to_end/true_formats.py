"""A few images of a data set in the very files that its publisher releases."""

import dataclasses
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from stages.data.dataset import Dataset, PublishedFile

NUM_TRAIN, NUM_TEST = 60, 20


def without_published_figures(dataset: Dataset) -> Dataset:
    """The data set without its numbers of images and checksums, which small files do not have."""
    return dataclasses.replace(
        dataset,
        num_train_images=None,
        num_test_images=None,
        train_files=tuple(PublishedFile(file.name) for file in dataset.train_files),
        test_files=tuple(PublishedFile(file.name) for file in dataset.test_files),
    )


def write_source(dataset: str, folder: Path) -> None:
    """Write small raw files of a data set of the catalogue into a new folder."""
    folder.mkdir()
    _WRITERS[dataset](folder, np.random.default_rng(0))


def _idx(folder: Path, chance: np.random.Generator) -> None:
    for prefix, num in (("train", NUM_TRAIN), ("t10k", NUM_TEST)):
        images = chance.integers(0, 256, (num, 28, 28), dtype=np.uint8)
        header = struct.pack(">4I", 0x803, num, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(num) % 10).astype(np.uint8)
        header = struct.pack(">2I", 0x801, num)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def _cifar10(folder: Path, chance: np.random.Generator) -> None:
    for name in [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]:
        num = NUM_TEST if name == "test_batch" else NUM_TRAIN // 5
        rows = chance.integers(0, 256, (num, 3072), dtype=np.uint8)
        batch = {"data": rows, "labels": [number % 10 for number in range(num)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


def _tinyimagenet(folder: Path, chance: np.random.Generator) -> None:
    codes = ["n01443537", "n02124075", "n02279972"]
    (folder / "wnids.txt").write_text("\n".join(codes) + "\n")
    (folder / "words.txt").write_text("".join(f"{code}\tclass {code}\n" for code in codes))
    for number in range(NUM_TRAIN):
        code = codes[number % 3]
        _picture(folder / "train" / code / "images" / f"{code}_{number}.JPEG", chance)
    lines = []
    for number in range(NUM_TEST):
        _picture(folder / "val" / "images" / f"val_{number}.JPEG", chance)
        lines.append(f"val_{number}.JPEG\t{codes[number % 3]}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))


def _picture(path: Path, chance: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(chance.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, "JPEG")


def _imagenet64(folder: Path, chance: np.random.Generator) -> None:
    for name in [f"train_data_batch_{number}" for number in range(1, 11)] + ["val_data"]:
        num = NUM_TEST if name == "val_data" else NUM_TRAIN // 10
        rows = chance.integers(0, 256, (num, 12288), dtype=np.uint8)
        labels = chance.integers(1, 1001, num)
        np.savez(folder / f"{name}.npz", data=rows, labels=labels, mean=rows.mean(0))


_WRITERS = {
    "mnist": _idx,
    "fashion_mnist": _idx,
    "cifar10": _cifar10,
    "tinyimagenet": _tinyimagenet,
    "imagenet64": _imagenet64,
}
