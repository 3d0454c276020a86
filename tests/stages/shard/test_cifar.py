import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset
from stages.shard.pickles import load_plain_pickle
from stages.shard.source import SourceContext, open_source

Toy = Callable[..., Dataset]


def python2_pickle(value: Any) -> bytes:
    """What Python 2's cPickle wrote at protocol 2, as in the published batches."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value: Any) -> bytes:
    if isinstance(value, str):
        raw = value.encode("latin1")
        return b"U" + bytes([len(raw)]) + raw
    if isinstance(value, bytes):
        return b"T" + struct.pack("<I", len(value)) + value
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, dict):
        items = b"".join(_python2(key) + _python2(item) for key, item in value.items())
        return b"}(" + items + b"u"
    assert isinstance(value, np.ndarray)
    assert value.dtype == np.uint8
    rebuild = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    kind = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + 2 * _python2(-1) + b"K\x00tb"
    shape = b"(" + b"".join(map(_python2, value.shape)) + b"t"
    return rebuild + b"(K\x01" + shape + kind + b"\x89" + _python2(value.tobytes()) + b"tb"


def write_cifar10(folder: Path) -> np.ndarray:
    """Two images a batch; returns the training rows."""
    rows = np.random.default_rng(0).integers(0, 256, (12, 3072), dtype=np.uint8)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    folder.mkdir()
    for number, name in enumerate(names):
        batch = {
            "batch_label": f"batch {number}",
            "labels": [number, 9 - number],
            "data": rows[2 * number : 2 * number + 2],
            "filenames": ["a.png", "b.png"],
        }
        (folder / name).write_bytes(python2_pickle(batch))
    return rows[:10]


@pytest.fixture
def source_dir(tmp_path: Path) -> Path:
    write_cifar10(tmp_path / "source")
    return tmp_path / "source"


def test_cifar10_batches_of_python2_are_read(
    tmp_path: Path, toy: Toy, source_context: SourceContext
) -> None:
    rows = write_cifar10(tmp_path / "source")
    source = open_source(toy("cifar10"), tmp_path / "source", source_context)
    assert source.splits["train"].labels.tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5]
    assert source.splits["test"].labels.tolist() == [5, 4]
    images = source.splits["train"].read_images(np.array([7, 2]))
    assert images.shape == (2, 32, 32, 3)
    assert (images == rows[[7, 2]].reshape(2, 3, 32, 32).transpose(0, 2, 3, 1)).all()
    assert source.files[0].name == "data_batch_1"


def test_cifar100_has_fine_labels(tmp_path: Path, toy: Toy, source_context: SourceContext) -> None:
    for name, labels in (("train", [99, 3]), ("test", [7])):
        rows = np.zeros((len(labels), 3072), np.uint8)
        batch = {"data": rows, "coarse_labels": [0] * len(labels), "fine_labels": labels}
        (tmp_path / name).write_bytes(python2_pickle(batch))
    source = open_source(toy("cifar100"), tmp_path, source_context)
    assert source.splits["train"].labels.tolist() == [99, 3]
    assert len(source.classes) == 100


def test_a_missing_batch_is_named(
    source_dir: Path, toy: Toy, source_context: SourceContext
) -> None:
    (source_dir / "data_batch_3").unlink()
    with pytest.raises(UserError, match=r"data_batch_3 is missing; fetch it with"):
        open_source(toy("cifar10"), source_dir, source_context)


GOOD_ROWS = np.zeros((2, 3072), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no batch of images"),
        (b"not a pickle", "no batch of images"),
        (python2_pickle({"data": GOOD_ROWS, "labels": [0, 1]})[:2000], "no batch of images"),
        (python2_pickle([1, 2]), "no batch of images"),
        (python2_pickle({"data": GOOD_ROWS}), "'labels'"),
        (python2_pickle({"data": GOOD_ROWS, "labels": [1]}), "1 labels for 2 images"),
        (python2_pickle({"data": GOOD_ROWS, "labels": [1, 10]}), "label 10 of image 1"),
        (python2_pickle({"data": GOOD_ROWS, "labels": [1, -1]}), "label -1 of image 1"),
        (
            python2_pickle({"data": GOOD_ROWS[:, :9], "labels": [1, 1]}),
            r"uint8 \(2, 9\), not uint8",
        ),
        (python2_pickle({"data": [1, 2], "labels": [1, 1]}), "data are int64"),
    ],
)
def test_a_damaged_batch_is_named_with_its_fault(
    source_dir: Path, toy: Toy, source_context: SourceContext, content: bytes, message: str
) -> None:
    (source_dir / "data_batch_2").write_bytes(content)
    with pytest.raises(StageError, match=message) as caught:
        open_source(toy("cifar10"), source_dir, source_context)
    assert "data_batch_2 is damaged" in str(caught.value)


class _Command:
    def __init__(self, program: str) -> None:
        self.program = program

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self.program,)


def test_a_pickle_that_runs_a_command_is_refused_and_nothing_runs(
    source_dir: Path, toy: Toy, source_context: SourceContext, tmp_path: Path
) -> None:
    trace = tmp_path / "was_here"
    batch = {"data": GOOD_ROWS, "labels": _Command(f"touch {trace}")}
    (source_dir / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(StageError, match=r"asks for posix\.system, which no batch of images needs"):
        open_source(toy("cifar10"), source_dir, source_context)
    assert not trace.exists()


@pytest.mark.parametrize("name", [b"builtins\neval", b"numpy\nload", b"numpy\nndarray.tofile"])
def test_no_other_name_can_be_looked_up(name: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError, match="which no batch of images needs"):
        load_plain_pickle(b"c" + name + b"\n.")


def test_a_pickle_of_todays_numpy_is_read_too() -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    loaded = load_plain_pickle(pickle.dumps({"data": array, "labels": [1, 2]}, protocol=2))
    assert (loaded["data"] == array).all()
