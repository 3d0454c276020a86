import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset
from stages.shard.source import SourceContext, open_source

Toy = Callable[..., Dataset]
CODES = ["n02124075", "n01443537"]
ANNOTATIONS = "val/val_annotations.txt"


def write_jpeg(path: Path, brightness: int, mode: str = "RGB", size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), brightness if mode == "L" else (brightness,) * 3).save(path)


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    """Two classes of three training images, four val images, one of each split grey."""
    folder = tmp_path / "tiny-imagenet-200"
    for number, code in enumerate(CODES):
        for image in range(3):
            mode = "L" if image == 2 else "RGB"
            name = f"train/{code}/images/{code}_{image}.JPEG"
            write_jpeg(folder / name, 100 * number + 10 * image, mode)
        (folder / "train" / code / f"{code}_boxes.txt").write_text("")
    (folder / "wnids.txt").write_text("\n".join(CODES) + "\n")
    (folder / "words.txt").write_text(
        "n01443537\tgoldfish, Carassius auratus\nn09999999\tnothing\nn02124075\tEgyptian cat\n"
    )
    lines = []
    for image in range(4):
        write_jpeg(folder / "val" / "images" / f"val_{image}.JPEG", image, "L" if image else "RGB")
        lines.append(f"val_{image}.JPEG\t{CODES[image % 2]}\t0\t0\t62\t62\n")
    (folder / ANNOTATIONS).write_text("".join(lines))
    return folder


def test_the_official_layout_is_read(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    source = open_source(toy("tinyimagenet"), source_dir, source_context)
    assert source.image_shape == (64, 64, 3)
    assert source.classes == ("goldfish", "Egyptian cat")
    assert source.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.splits["test"].labels.tolist() == [1, 0, 1, 0]


def test_grey_pictures_become_coloured_ones(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    source = open_source(toy("tinyimagenet"), source_dir, source_context)
    images = source.splits["train"].read_images(np.array([2, 3]))
    assert images.shape == (2, 64, 64, 3)
    assert abs(images[0].astype(int) - 120).max() <= 1
    assert images[1].max() <= 1


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", ANNOTATIONS, "train/n01443537/images"])
def test_a_missing_part_is_named(
    source_dir: Path, toy: Toy, source_context: SourceContext, name: str
) -> None:
    path = source_dir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=f"{name} is missing; set `source`"):
        open_source(toy("tinyimagenet"), source_dir, source_context)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (ANNOTATIONS, "val_0.JPEG\tn01443537\n", "no line for val_1.JPEG"),
        (ANNOTATIONS, "val_0.JPEG\tn00000001\n", "line 1 names the class 'n00000001'"),
        (ANNOTATIONS, "val_0.JPEG\n", "line 1 names the class ''"),
        (ANNOTATIONS, "val_0.JPEG\tn01443537\n" * 2, "line 2 names val_0.JPEG a second time"),
        (ANNOTATIONS, "val_9.JPEG\tn01443537\n", "line 1 names val_9.JPEG, which is not in"),
        ("words.txt", "n01443537\tgoldfish\n", "no name for the class n02124075"),
    ],
)
def test_texts_that_do_not_fit_the_pictures_are_named(
    source_dir: Path, toy: Toy, source_context: SourceContext, name: str, text: str, message: str
) -> None:
    (source_dir / name).write_text(text)
    with pytest.raises(StageError, match=message) as caught:
        open_source(toy("tinyimagenet"), source_dir, source_context)
    assert name in str(caught.value)


def test_a_class_folder_that_is_not_listed_is_named(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    (source_dir / "train" / "n00000001").mkdir()
    with pytest.raises(StageError, match=r"has n00000001, which wnids\.txt does not list"):
        open_source(toy("tinyimagenet"), source_dir, source_context)


def test_a_wrong_number_of_pictures_is_named(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    dataset = toy("tinyimagenet", num_train_images=100_000)
    with pytest.raises(StageError, match="6 train images, but TinyImageNet has 100,000"):
        open_source(dataset, source_dir, source_context)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot be read as a picture: .*[Tt]runcated"),
        (lambda path: path.write_bytes(b"<html>"), "cannot be read as a picture: cannot identify"),
        (lambda path: path.write_bytes(b""), "cannot be read as a picture"),
        (lambda path: write_jpeg(path, 1, size=63), "is 63 x 63 pixels, the others 64 x 64"),
    ],
)
def test_an_unreadable_picture_is_named(
    source_dir: Path,
    toy: Toy,
    source_context: SourceContext,
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(source_dir / "train" / "n01443537" / "images" / "n01443537_1.JPEG")
    source = open_source(toy("tinyimagenet"), source_dir, source_context)
    with pytest.raises(StageError, match=rf"n01443537_1\.JPEG {message}"):
        source.splits["train"].read_images(np.arange(6))


def test_the_checksum_of_the_tree_changes_with_a_picture(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    (before,) = open_source(toy("tinyimagenet"), source_dir, source_context).files
    write_jpeg(source_dir / "val" / "images" / "val_3.JPEG", 77)
    (after,) = open_source(toy("tinyimagenet"), source_dir, source_context).files
    assert before.name == after.name
    assert before.sha256 != after.sha256
