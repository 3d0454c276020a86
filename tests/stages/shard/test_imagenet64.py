import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset
from stages.shard.source import SourceContext, open_source

Toy = Callable[..., Dataset]
NAMES = [f"train_data_batch_{number}.npz" for number in range(1, 11)] + ["val_data.npz"]


@pytest.fixture
def rows() -> np.ndarray:
    """Three images a batch, eleven batches."""
    return np.random.default_rng(0).integers(0, 256, (33, 12288), dtype=np.uint8)


@pytest.fixture
def source_dir(tmp_path: Path, rows: np.ndarray) -> Path:
    """The eleven batches; every other one compressed."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        save = np.savez_compressed if number % 2 else np.savez
        batch = rows[3 * number : 3 * number + 3]
        save(folder / name, data=batch, labels=np.array([1, 1000, number + 1]), mean=batch.mean(0))
    return folder


def test_stored_and_compressed_batches_are_read(
    source_dir: Path, toy: Toy, source_context: SourceContext, rows: np.ndarray
) -> None:
    source = open_source(toy("imagenet64"), source_dir, source_context)
    train, test = source.splits["train"], source.splits["test"]
    assert train.labels[:9].tolist() == [0, 999, 0, 0, 999, 1, 0, 999, 2]
    assert test.labels.tolist() == [0, 999, 10]
    positions = np.array([29, 0, 4, 3, 28])
    expected = rows[positions].reshape(5, 3, 64, 64).transpose(0, 2, 3, 1)
    assert (train.read_images(positions) == expected).all()
    expected = rows[30:].reshape(3, 3, 64, 64).transpose(0, 2, 3, 1)
    assert (test.read_images(np.arange(3)) == expected).all()


def test_only_compressed_batches_are_unpacked(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    open_source(toy("imagenet64"), source_dir, source_context)
    unpacked = sorted(path.name for path in source_context.scratch_dir.iterdir())
    assert unpacked == sorted(f"{name}.data.npy" for name in NAMES[1::2])


def test_class_names_come_from_the_map_where_there_is_one(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    assert open_source(toy("imagenet64"), source_dir, source_context).classes[:2] == ("1", "2")
    lines = [f"n{number:08d} {number} class_{number}\n" for number in range(1000, 0, -1)]
    (source_dir / "map_clsloc.txt").write_text("".join(lines))
    assert open_source(toy("imagenet64"), source_dir, source_context).classes[1] == "class 2"
    (source_dir / "map_clsloc.txt").write_text("".join(lines[1:]))
    with pytest.raises(StageError, match=r"map_clsloc\.txt is damaged .* classes 1 to 1000"):
        open_source(toy("imagenet64"), source_dir, source_context)


def test_a_missing_batch_is_named(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    (source_dir / "train_data_batch_10.npz").unlink()
    with pytest.raises(UserError, match=r"train_data_batch_10\.npz is missing; set `source`"):
        open_source(toy("imagenet64"), source_dir, source_context)


@pytest.mark.parametrize("name", ["train_data_batch_1.npz", "train_data_batch_2.npz"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-300],
        lambda content: content[:20_000] + b"\x00\x01\x02" + content[20_003:],
        lambda content: b"<html>",
        lambda content: b"",
    ],
)
def test_a_damaged_batch_is_named(
    source_dir: Path,
    toy: Toy,
    source_context: SourceContext,
    name: str,
    damage: Callable[[bytes], bytes],
) -> None:
    path = source_dir / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StageError, match=f"{name} is damaged .* no npz batch of images"):
        open_source(toy("imagenet64"), source_dir, source_context)


DATA = np.zeros((2, 12288), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": DATA}, r"labels\.npy"),
        ({"labels": np.array([1, 2])}, r"data\.npy"),
        ({"data": DATA[:, :3072], "labels": np.array([1, 2])}, r"uint8 \(2, 3072\), not uint8"),
        ({"data": DATA.astype(float), "labels": np.array([1, 2])}, "float64, not uint8"),
        ({"data": np.asfortranarray(DATA), "labels": np.array([1, 2])}, "in C order"),
        ({"data": DATA, "labels": np.array([1, 2, 3])}, r"\(3,\) for 2 images"),
        ({"data": DATA, "labels": np.array([1.0, 2.0])}, "labels are float64"),
        ({"data": DATA, "labels": np.array([0, 2])}, "the label 0, but labels go from 1 to 1000"),
        ({"data": DATA, "labels": np.array([1, 1001])}, "label 1000 of image 1"),
    ],
)
def test_a_batch_of_something_else_is_named(
    source_dir: Path,
    toy: Toy,
    source_context: SourceContext,
    arrays: dict[str, np.ndarray],
    message: str,
) -> None:
    np.savez(source_dir / "val_data.npz", **arrays)
    with pytest.raises(StageError, match=message) as caught:
        open_source(toy("imagenet64"), source_dir, source_context)
    assert "val_data.npz is damaged" in str(caught.value)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return pytest.fail, ("a pickle was run",)


def test_a_pickled_array_is_not_loaded(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    array = np.array([_Bomb(), _Bomb()], dtype=object)
    assert pickle.dumps(array)
    np.savez(source_dir / "val_data.npz", data=DATA, labels=array)
    with pytest.raises(StageError, match="Object arrays cannot be loaded"):
        open_source(toy("imagenet64"), source_dir, source_context)
