import struct
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StageError, UserError
from pipeline.execution.context import Context
from stages.data.dataset import Dataset
from stages.data.in_memory import load_split
from stages.data.manifest import Manifest, read_manifest
from stages.shard.config import Settings
from stages.shard.run import run, shard_dataset

Toy = Callable[..., Dataset]
FASHION_MNIST = Path(__file__).parents[3] / "data" / "fashion_mnist"


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    """100 training and 30 test images in idx files; the first pixels hold the image's number."""
    folder = tmp_path / "source"
    folder.mkdir()
    for prefix, num in (("train", 100), ("t10k", 30)):
        images = np.random.default_rng(num).integers(0, 256, (num, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(num)
        header = struct.pack(">4I", 0x803, num, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = (np.arange(num) % 10).astype(np.uint8)
        header = struct.pack(">2I", 0x801, num)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return folder


def settings(source_dir: Path, **changes: object) -> Settings:
    values = {
        "dataset": "mnist",
        "source": source_dir,
        "seed": 1,
        "validation_images": 20,
        "images_per_block": 8,
        "shard_bytes": 20_000,
    }
    return Settings.model_validate({**values, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_each_image_lies_in_one_split_with_its_label(
    context: Context, toy: Toy, source_dir: Path
) -> None:
    shard_dataset(context, settings(source_dir), toy("mnist"))
    manifest = read_manifest(context.output_dir)
    assert {name: split.num_images for name, split in manifest.splits.items()} == {
        "train": 80,
        "validation": 20,
        "test": 30,
    }
    numbers = {}
    for name in manifest.splits:
        loaded = load_split(context.output_dir, manifest, name)
        numbers[name] = loaded.images[:, 0, 0, 0].tolist()
        assert loaded.labels.tolist() == [number % 10 for number in numbers[name]]
    assert sorted(numbers["train"] + numbers["validation"]) == list(range(100))
    assert numbers["train"] != sorted(numbers["train"])
    assert numbers["test"] == list(range(30))


def test_the_manifest_tells_the_dataset(context: Context, toy: Toy, source_dir: Path) -> None:
    shard_dataset(context, settings(source_dir), toy("mnist"))
    manifest = read_manifest(context.output_dir)
    assert (manifest.dataset, manifest.seed, manifest.images_per_block) == ("mnist", 1, 8)
    assert (manifest.mean, manifest.std, manifest.image_shape) == ((0.1307,), 0.3081, (28, 28, 1))
    assert len(manifest.sources) == 4


@pytest.mark.parametrize("images_per_block", [8, 1])
def test_the_files_are_the_same_for_any_number_of_workers(
    context: Context, toy: Toy, source_dir: Path, images_per_block: int
) -> None:
    written = []
    for num_workers in (1, 3, 3):
        some = settings(source_dir, num_workers=num_workers, images_per_block=images_per_block)
        shard_dataset(context, some, toy("mnist"))
        written.append(contents(context.output_dir))
    assert len(written[0]) > 5
    assert written[0] == written[1] == written[2]


def test_pictures_hold_the_same_images_as_blocks(
    context: Context, toy: Toy, source_dir: Path
) -> None:
    shard_dataset(context, settings(source_dir), toy("mnist"))
    blocks = load_split(context.output_dir, read_manifest(context.output_dir), "train")
    shard_dataset(context, settings(source_dir, images_per_block=1), toy("mnist"))
    pictures = load_split(context.output_dir, read_manifest(context.output_dir), "train")
    assert (pictures.images == blocks.images).all()
    with tarfile.open(context.output_dir / "train-000000.tar") as tar:
        assert tar.getnames()[:3] == ["train-000000.png", "train-000000.cls", "train-000001.png"]


def test_what_an_earlier_try_left_is_removed(context: Context, toy: Toy, source_dir: Path) -> None:
    (context.output_dir / "train-000099.tar").write_bytes(b"half")
    (context.output_dir / ".train-000000.tar.tmp").write_bytes(b"half")
    (context.output_dir / ".scratch-old").mkdir()
    shard_dataset(context, settings(source_dir), toy("mnist"))
    manifest = read_manifest(context.output_dir)
    shards = [shard.name for split in manifest.splits.values() for shard in split.shards]
    assert sorted(contents(context.output_dir)) == sorted([*shards, "manifest.json"])


def test_holding_back_every_image_is_refused_before_anything_is_written(
    context: Context, toy: Toy, source_dir: Path
) -> None:
    with pytest.raises(UserError, match=r"validation_images is 100, but .* only 100 training"):
        shard_dataset(context, settings(source_dir, validation_images=100), toy("mnist"))
    assert contents(context.output_dir) == {}


def test_a_source_that_is_not_the_published_one_stops_before_anything_is_written(
    context: Context, source_dir: Path
) -> None:
    with pytest.raises(StageError, match="its content is not the published one"):
        run(context, settings(source_dir))
    assert contents(context.output_dir) == {}


def write_tree(root: Path) -> None:
    for split, num in (("train", 12), ("test", 4)):
        for number in range(num):
            path = root / split / "ab"[number % 2] / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (9, 7, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)


def test_a_folder_is_normalised_by_its_own_training_images(
    context: Context, tmp_path: Path
) -> None:
    write_tree(tmp_path / "tree")
    run(context, settings(tmp_path / "tree", dataset="folder", validation_images=4))
    manifest = read_manifest(context.output_dir)
    images = load_split(context.output_dir, manifest, "train").images.double() / 255
    means = images.mean(dim=(0, 2, 3))
    variances = images.var(dim=(0, 2, 3), correction=0)
    assert manifest.mean == tuple(round(mean, 4) for mean in means.tolist())
    assert manifest.std == round(float(variances.mean().sqrt()), 4)


def test_an_unreadable_picture_stops_the_stage_and_leaves_no_half_written_file(
    context: Context, tmp_path: Path
) -> None:
    write_tree(tmp_path / "tree")
    victim = tmp_path / "tree" / "train" / "a" / "04.png"
    victim.write_bytes(victim.read_bytes()[:-60])
    with pytest.raises(StageError, match=r"a/04\.png cannot be read as a picture"):
        run(context, settings(tmp_path / "tree", dataset="folder", validation_images=4))
    assert all(name.endswith(".tar") for name in contents(context.output_dir))
    assert not (context.output_dir / "manifest.json").exists()


def test_the_real_fashion_mnist_is_sharded_and_loaded_in_seconds(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    if not FASHION_MNIST.is_dir():
        pytest.skip("needs data/fashion_mnist: make setup")
    start = time.monotonic()
    run(context, Settings(dataset="fashion_mnist", source=FASHION_MNIST))
    sharded = time.monotonic()
    manifest: Manifest = read_manifest(context.output_dir)
    counts = {name: len(load_split(context.output_dir, manifest, name)) for name in manifest.splits}
    assert counts == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert sharded - start < 20
    assert time.monotonic() - sharded < 5  # about 0.2 s; the rest is for machines with other work
    assert "55,000" in capsys.readouterr().out
