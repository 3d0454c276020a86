from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset
from stages.shard.source import SourceContext, open_source

Toy = Callable[..., Dataset]


def write_picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (6, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number, name in enumerate(["train/cat/b", "train/cat/a", "train/ant/c", "test/cat/x"]):
        write_picture(folder / f"{name}.png", number)
    write_picture(folder / "test" / "ant" / "y.bmp", 9)
    (folder / "train" / ".hidden").write_text("")
    (folder / "train" / "cat" / ".DS_Store").write_text("")
    return folder


def test_classes_are_the_folders_in_order(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    source = open_source(toy("folder"), source_dir, source_context)
    assert source.classes == ("ant", "cat")
    assert source.image_shape == (6, 5, 3)
    assert source.splits["train"].labels.tolist() == [0, 1, 1]
    images = source.splits["train"].read_images(np.array([2, 1, 0]))
    for image, seed in zip(images, [0, 1, 2], strict=True):
        expected = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
        assert (image == expected).all()


def test_grey_pictures_have_one_channel(
    tmp_path: Path, toy: Toy, source_context: SourceContext
) -> None:
    for name in ("train/a/1", "train/b/1", "test/a/1", "test/b/1"):
        write_picture(tmp_path / "source" / f"{name}.png", 0, "L")
    source = open_source(toy("folder"), tmp_path / "source", source_context)
    assert source.image_shape == (6, 5, 1)
    assert source.splits["test"].read_images(np.array([0, 1])).shape == (2, 6, 5, 1)


def test_one_coloured_picture_makes_all_coloured(
    tmp_path: Path, toy: Toy, source_context: SourceContext
) -> None:
    for name in ("train/a/1", "train/b/1", "test/a/1", "test/b/1"):
        mode = "P" if name == "test/b/1" else "L"
        write_picture(tmp_path / "source" / f"{name}.png", 0, mode)
    source = open_source(toy("folder"), tmp_path / "source", source_context)
    assert source.image_shape == (6, 5, 3)
    grey = source.splits["test"].read_images(np.array([0]))[0]
    assert (grey[..., 0] == grey[..., 2]).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16", "F"])
def test_pictures_without_plain_values_are_refused(
    source_dir: Path, toy: Toy, source_context: SourceContext, mode: str
) -> None:
    path = source_dir / "train" / "cat" / "odd.tiff"
    Image.new(mode, (5, 6)).save(path)
    with pytest.raises(StageError, match=r"odd\.tiff is of kind .* convert it to L or RGB"):
        open_source(toy("folder"), source_dir, source_context)


def test_a_transparent_palette_is_refused(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    path = source_dir / "train" / "cat" / "odd.png"
    Image.new("P", (5, 6)).save(path, transparency=0)
    with pytest.raises(StageError, match=r"odd\.png is transparent"):
        open_source(toy("folder"), source_dir, source_context)


def test_pictures_of_two_sizes_are_named_before_any_is_decoded(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    write_picture(source_dir / "test" / "cat" / "wide.png", 0, size=(6, 7))
    with pytest.raises(StageError, match=r"wide\.png is 6 x 7 pixels, .*c\.png is 6 x 5"):
        open_source(toy("folder"), source_dir, source_context)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "train" / "dog").mkdir(), "the class 'dog' is in only one of"),
        (lambda root: (root / "test" / "dog").mkdir(), "the class 'dog' is in only one of"),
        (
            lambda root: (root / "train" / "cat" / "a.txt").write_text("x"),
            "a.txt cannot be read as",
        ),
        (lambda root: (root / "train" / "a.png").write_text("x"), "a.png is no class folder"),
        (lambda root: (root / "test" / "cat" / "x.png").unlink(), "test/cat has no pictures"),
    ],
)
def test_a_tree_that_is_not_as_it_should_be_is_named(
    source_dir: Path,
    toy: Toy,
    source_context: SourceContext,
    change: Callable[[Path], object],
    message: str,
) -> None:
    change(source_dir)
    with pytest.raises(StageError, match=message):
        open_source(toy("folder"), source_dir, source_context)


def test_one_class_is_too_few(tmp_path: Path, toy: Toy, source_context: SourceContext) -> None:
    for split in ("train", "test"):
        write_picture(tmp_path / "source" / split / "only" / "1.png", 0)
    with pytest.raises(StageError, match="has 1 class folders; at least two"):
        open_source(toy("folder"), tmp_path / "source", source_context)


def test_a_missing_split_is_named(tmp_path: Path, toy: Toy, source_context: SourceContext) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match="test is missing; set `source`"):
        open_source(toy("folder"), tmp_path, source_context)
