from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import StageError
from stages.data.in_memory import load_split
from stages.data.manifest import Manifest
from stages.data.shards import read_samples, read_shard

WriteArtifact = Callable[..., tuple[Path, Manifest]]


@pytest.mark.parametrize("images_per_block", [8, 1])
@pytest.mark.parametrize("image_shape", [(4, 5, 1), (3, 4, 3)])
def test_row_i_is_image_i_of_the_split(
    write_artifact: WriteArtifact, image_shape: tuple[int, int, int], images_per_block: int
) -> None:
    data_dir, manifest = write_artifact({"train": 53}, image_shape, images_per_block)
    loaded = load_split(data_dir, manifest, "train")
    samples = [
        sample
        for shard in manifest.split("train").shards
        for sample in read_samples(read_shard(data_dir, shard), shard, image_shape)
    ]
    images = np.concatenate([sample.images for sample in samples]).transpose(0, 3, 1, 2)
    assert loaded.split == "train"
    assert loaded.images.dtype == torch.uint8
    assert loaded.images.is_contiguous()
    assert torch.equal(loaded.images, torch.from_numpy(images.copy()))
    assert loaded.labels.dtype == torch.int64
    assert loaded.labels.tolist() == [i % 10 for i in range(53)]


def test_a_damaged_shard_stops_the_loading(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None]
) -> None:
    data_dir, manifest = write_artifact({"train": 53})
    flip_byte(data_dir / "train-000002.tar", 1000)
    with pytest.raises(StageError, match=r"train-000002\.tar is damaged"):
        load_split(data_dir, manifest, "train")


def test_a_missing_split_is_named(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 5})
    with pytest.raises(StageError, match="no split 'test'"):
        load_split(data_dir, manifest, "test")
