import hashlib
import json
from fractions import Fraction

import numpy as np
import pytest
from pydantic import ValidationError

from pipeline.errors import StageError
from stages.data.manifest import image_key
from stages.data.radius import largest_float_up_to
from stages.data.records import (
    Record,
    check_every_image_once,
    image_digest,
    read_records,
    read_summary,
    summarise,
    write_records,
    write_summary,
)

EPS = Fraction(1, 10)


def record(index=0, split="test", **changes):
    fields = {
        "key": image_key(split, index),
        "label": 3,
        "predicted": 3,
        "margin": 1.25,
        "radius": 0.22,
        "exact_radius": Fraction(0.22),
        "certified": True,
        "attacked_correct": True,
        "method": "margin",
        "seconds": 0.001,
        "pgd_correct": True,
        "image_sha256": "d" * 64,
    }
    if isinstance(changes.get("exact_radius"), Fraction):
        fields["radius"] = largest_float_up_to(changes["exact_radius"])
    return Record(**(fields | changes))


WRONG = {"predicted": 5, "margin": -0.5, "exact_radius": Fraction(0), "method": "none"}
LOST = {"certified": False, "attacked_correct": False, "pgd_correct": False}


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [
        record(0, margin=0.1 + 0.2, exact_radius=Fraction(1, 3)),
        record(1, **WRONG, **LOST),
        record(
            2, margin=float("-inf"), predicted=0, exact_radius=Fraction(0), method="none", **LOST
        ),
    ]
    write_records(tmp_path / "records.csv", rows)
    assert read_records(tmp_path / "records.csv") == rows


def test_nothing_is_left_beside_a_written_file(tmp_path):
    write_records(tmp_path / "records.csv", [record()])
    assert [path.name for path in tmp_path.iterdir()] == ["records.csv"]


@pytest.mark.parametrize(
    "contradiction",
    [
        {"attacked_correct": False},
        {"predicted": 4},
        {"predicted": 4, **LOST},
        {"certified": False, "attacked_correct": True, "pgd_correct": False},
        {"radius": float("nan")},
        {"radius": float("inf")},
        {"radius": 0.2200001},
        {"exact_radius": 0.22},
        {"exact_radius": Fraction(-1, 10)},
        {"exact_radius": "0.22", "radius": 0.22},
        {"exact_radius": "1/0"},
        {"image_sha256": "d" * 63},
        {"within_slack": True},
    ],
)
def test_a_row_that_contradicts_itself_cannot_be_made(contradiction):
    with pytest.raises(ValidationError):
        record(**contradiction)


def test_radius_is_compared_exactly_and_strictly():
    quarter = record(exact_radius=Fraction(1, 4))
    assert quarter.is_certified_at(Fraction(1, 4) - Fraction(1, 10**30))
    assert not quarter.is_certified_at(Fraction(1, 4))
    assert record(exact_radius=Fraction(0.1)).is_certified_at(EPS), "the float 0.1 is above 1/10"
    third = record(exact_radius=Fraction(1, 3))
    assert Fraction(third.radius) < Fraction(1, 3) and not third.is_certified_at(Fraction(1, 3))


@pytest.mark.parametrize("num_cut", [1, 2, 20])
def test_a_file_cut_short_is_named(tmp_path, num_cut):
    path = tmp_path / "records.csv"
    write_records(path, [record(0), record(1)])
    path.write_text(path.read_text()[:-num_cut])
    with pytest.raises(StageError, match=r"records\.csv.*cut short"):
        read_records(path)


def test_a_damaged_row_is_named_by_its_line(tmp_path):
    path = tmp_path / "records.csv"
    write_records(path, [record(0), record(1)])
    path.write_text(path.read_text().replace("test-000001,3", "test-000001,three"))
    with pytest.raises(StageError, match=r"records\.csv:3: label"):
        read_records(path)


def test_a_forged_row_is_refused(tmp_path):
    path = tmp_path / "records.csv"
    write_records(path, [record(0, **LOST, exact_radius=Fraction(1, 16))])
    path.write_text(path.read_text().replace("0.0625,false", "0.0625,true"))
    with pytest.raises(StageError, match=r":2: .*certified, but broken"):
        read_records(path)


def test_missing_columns_are_named(tmp_path):
    path = tmp_path / "records.csv"
    path.write_text("key,label\ntest-000000,3\n")
    with pytest.raises(StageError, match="header"):
        read_records(path)


def test_every_image_once_accepts_any_order():
    check_every_image_once([record(2), record(0), record(1)], "test", 3)


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([record(0), record(2)], "1 missing .test-000001"),
        ([record(0), record(1), record(1), record(2)], "1 doubled .test-000001"),
        ([record(0), record(1), record(1)], "1 missing .test-000002.; 1 doubled"),
        ([record(0), record(1), record(2, split="train")], "not of split 'test' .train-000002"),
        ([record(0), record(1), record(2), record(3)], "not of split 'test' .test-000003"),
    ],
)
def test_a_missing_doubled_or_foreign_image_is_refused(rows, fault):
    with pytest.raises(StageError, match=fault):
        check_every_image_once(rows, "test", 3)


def test_summary_counts_what_the_rows_say(tmp_path):
    rows = [
        record(0),
        record(1, exact_radius=Fraction(11, 100)),
        record(2, exact_radius=Fraction(6, 100), certified=False),
        record(3, exact_radius=Fraction(6, 100), **(LOST | {"pgd_correct": True})),
        record(4, **WRONG, **LOST),
    ]
    grid = [Fraction(1, 5), Fraction(1, 20), Fraction(0)]
    summary = summarise(rows, "test", "linf", EPS, grid, "margin")
    assert (summary.clean_accuracy, summary.attacked_accuracy) == (4 / 5, 3 / 5)
    assert summary.certified_accuracy == 2 / 5
    assert summary.pgd_accuracy == 4 / 5
    assert summary.seconds == pytest.approx(0.005)
    points = [(point.eps, point.num_certified) for point in summary.eps_grid]
    assert points == [(Fraction(0), 4), (Fraction(1, 20), 4), (Fraction(1, 5), 1)]
    write_summary(tmp_path, summary)
    assert read_summary(tmp_path) == summary
    assert json.loads((tmp_path / "summary.json").read_text())["eps"] == "1/10"


def test_summary_refuses_a_row_whose_radius_disagrees():
    with pytest.raises(StageError, match="test-000000: certified is True at eps 1/2"):
        summarise([record(0)], "test", "linf", Fraction(1, 2), [], "margin")


def test_a_summary_in_l2_comes_back_with_radii_above_one(tmp_path):
    rows = [record(0, exact_radius=Fraction(2)), record(1, exact_radius=Fraction(5, 3))]
    summary = summarise(rows, "test", "l2", Fraction(79, 50), [Fraction(9, 5)], "margin")
    write_summary(tmp_path, summary)
    assert read_summary(tmp_path) == summary
    assert [point.num_certified for point in summary.eps_grid] == [1]


def test_a_damaged_summary_is_named(tmp_path):
    (tmp_path / "summary.json").write_text('{"num_images": 0}')
    with pytest.raises(StageError, match=r"summary\.json"):
        read_summary(tmp_path)


def test_an_images_digest_is_that_of_its_pixels_whatever_their_layout():
    image = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    expected = hashlib.sha256(bytes(range(12))).hexdigest()
    assert image_digest(image) == expected
    assert image_digest(np.asfortranarray(image)) == expected
    assert image_digest(image[:, ::-1]) != expected
