import math
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import StageError
from stages.data.history import (
    HISTORY_NAME,
    HistoryLine,
    append_history,
    cut_history,
    read_history,
)


def line(step: int, p: float = 8.0) -> HistoryLine:
    return HistoryLine(
        step=step,
        epoch=step / 10,
        progress=step / 100,
        eps_train=0.225,
        learning_rate=0.02,
        extra={"p": p, "logit_scale": 1.0},
        train_loss=0.5,
        train_accuracy=0.75,
        eps=Fraction(79, 50),
        num_validation_images=5000,
        validation_clean_accuracy=0.8,
        validation_certified_accuracy=0.7,
        data_wait_share=0.02,
        images_per_s=1e4,
        seconds=12.5,
    )


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        append_history(folder, line(step))


def test_lines_come_back_as_written_infinity_included(tmp_path) -> None:
    lines = (line(10), line(20, p=math.inf))
    for one in lines:
        append_history(tmp_path, one)
    assert read_history(tmp_path) == lines


def test_a_cut_keeps_what_came_before(tmp_path) -> None:
    write(tmp_path, 10, 20, 30)
    cut_history(tmp_path, last_step=20)
    assert [one.step for one in read_history(tmp_path)] == [10, 20]


def test_a_cut_drops_a_line_that_a_crash_left_half_written(tmp_path) -> None:
    write(tmp_path, 10)
    with (tmp_path / HISTORY_NAME).open("a") as file:
        file.write('{"step": 20, "epo')
    cut_history(tmp_path, last_step=20)
    write(tmp_path, 20)
    assert [one.step for one in read_history(tmp_path)] == [10, 20]


def test_a_cut_of_no_history_is_nothing(tmp_path) -> None:
    cut_history(tmp_path, last_step=5)
    assert not list(tmp_path.iterdir())


def test_a_damaged_line_is_named(tmp_path) -> None:
    write(tmp_path, 10)
    with (tmp_path / HISTORY_NAME).open("a") as file:
        file.write("nonsense\n")
    with pytest.raises(StageError, match=r"history.jsonl:2: damaged at"):
        read_history(tmp_path)


def test_a_missing_history_says_what_to_run(tmp_path) -> None:
    with pytest.raises(StageError, match=r"run the train stage first"):
        read_history(tmp_path)
