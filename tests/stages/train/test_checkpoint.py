import os
import re
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError
from pipeline.files import temporary_path
from stages.train.checkpoint import (
    FOLDER_NAME,
    RECORD_NAME,
    STATE_NAME,
    Checkpoint,
    keep_newest_and_best,
    load_newest,
    name_best,
    newest_step,
    save_checkpoint,
)


def checkpoint(step: int) -> Checkpoint:
    state = {"weight": torch.full((3, 2), float(step)), "step": torch.tensor(float(step))}
    return Checkpoint(step, state)


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, checkpoint(step), keep)


def saved_steps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / FOLDER_NAME).glob("step-*"))


def loaded_step(folder: Path) -> int:
    found = load_newest(folder).checkpoint
    assert found is not None
    expected = checkpoint(found.step).state
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in expected.items())
    return found.step


def test_the_newest_checkpoint_comes_back(tmp_path) -> None:
    save(tmp_path, 10, 20)
    assert loaded_step(tmp_path) == newest_step(tmp_path) == 20


def test_an_empty_folder_has_no_checkpoint(tmp_path) -> None:
    found = load_newest(tmp_path)
    assert found.checkpoint is None
    assert found.damaged == ()
    assert newest_step(tmp_path) is None


def test_only_the_newest_are_kept(tmp_path) -> None:
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert saved_steps(tmp_path) == ["step-00000003", "step-00000004"]
    keep_newest_and_best(tmp_path)
    assert saved_steps(tmp_path) == ["step-00000004"]


def test_latest_names_the_newest(tmp_path) -> None:
    save(tmp_path, 10, 20)
    assert (tmp_path / FOLDER_NAME / "latest").read_text() == "step-00000020\n"


def test_the_best_is_kept_however_old(tmp_path) -> None:
    save(tmp_path, 1)
    name_best(tmp_path, 1)
    save(tmp_path, 2, 3, 4)
    assert saved_steps(tmp_path) == ["step-00000001", "step-00000003", "step-00000004"]
    name_best(tmp_path, 3)
    keep_newest_and_best(tmp_path)
    assert saved_steps(tmp_path) == ["step-00000003", "step-00000004"]


@pytest.mark.parametrize("name", [STATE_NAME, RECORD_NAME])
@pytest.mark.parametrize("damage", ["cut", "flip", "missing"])
def test_a_damaged_newest_is_reported_and_the_one_before_used(tmp_path, name, damage) -> None:
    save(tmp_path, 10, 20)
    path = tmp_path / FOLDER_NAME / "step-00000020" / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:-3] if damage == "cut" else flipped)
    assert loaded_step(tmp_path) == 10
    (message,) = load_newest(tmp_path).damaged
    assert re.search(
        r"step-00000020(/checkpoint\.json: (damaged|cannot be read)| is damaged)", message
    )


def test_a_checkpoint_under_another_steps_name_is_damaged(tmp_path) -> None:
    save(tmp_path, 10)
    folder = tmp_path / FOLDER_NAME
    (folder / "step-00000010").rename(folder / "step-00000020")
    assert load_newest(tmp_path).checkpoint is None


def test_damaged_ones_ahead_go_when_the_run_commits_again(tmp_path) -> None:
    save(tmp_path, 10, 20)
    (tmp_path / FOLDER_NAME / "step-00000020" / STATE_NAME).write_bytes(b"")
    save(tmp_path, 15, keep=1)
    assert saved_steps(tmp_path) == ["step-00000015"]


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path) -> None:
    save(tmp_path, 10, 20)
    (tmp_path / FOLDER_NAME / "step-00000020" / STATE_NAME).write_bytes(b"")
    save(tmp_path, 20)
    assert loaded_step(tmp_path) == 20


def test_a_half_written_checkpoint_is_passed_over_and_replaced(tmp_path) -> None:
    save(tmp_path, 10)
    half = tmp_path / FOLDER_NAME / ".step-00000020.partial"
    half.mkdir()
    (half / STATE_NAME).write_bytes(b"half")
    assert loaded_step(tmp_path) == 10
    save(tmp_path, 20)
    assert loaded_step(tmp_path) == 20
    assert saved_steps(tmp_path) == ["step-00000010", "step-00000020"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_named_and_the_checkpoint_before_stays(tmp_path, monkeypatch) -> None:
    save(tmp_path, 10)
    half = tmp_path / FOLDER_NAME / ".step-00000020.partial"
    make_folder = os.mkdir

    def mkdir_with_full_disk(path, mode=0o777) -> None:
        make_folder(path, mode)
        if Path(path) == half:
            temporary_path(half / STATE_NAME).symlink_to("/dev/full")

    monkeypatch.setattr(os, "mkdir", mkdir_with_full_disk)
    with pytest.raises(StageError, match=r"step-00000020: No space left on device; make room"):
        save(tmp_path, 20)
    assert loaded_step(tmp_path) == 10
