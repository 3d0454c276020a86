from fractions import Fraction

import pytest

from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.certify.batch_files import BatchFiles
from stages.data.manifest import image_key
from stages.data.records import Record, read_records, write_records


def rows(indices):
    return [
        Record(
            key=image_key("test", index),
            label=0,
            predicted=0,
            margin=1.0,
            radius=0.0,
            certified=False,
            attacked_correct=True,
            method="none",
            seconds=0.0,
            exact_radius=Fraction(0),
            pgd_correct=True,
            image_sha256="d" * 64,
        )
        for index in indices
    ]


@pytest.fixture
def parts(tmp_path):
    return BatchFiles(tmp_path / "parts", "test", 10, 4)


def finish(parts, ranks=None):
    for batch in parts.left_for(ranks or Ranks()):
        parts.write(batch, rows(parts.indices(batch)))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_every_image_is_in_the_share_of_one_rank(tmp_path, world_size):
    shares = []
    for rank in range(world_size):
        parts = BatchFiles(tmp_path / str(rank), "test", 10, 4)
        for batch in parts.left_for(Ranks(rank, world_size)):
            shares += parts.indices(batch)
    assert sorted(shares) == list(range(10))


def test_merged_rows_are_in_the_order_of_the_images(parts):
    for rank in (2, 0, 1):
        finish(parts, Ranks(rank, 3))
    assert [row.key for row in parts.merge()] == [image_key("test", index) for index in range(10)]


def test_finished_batches_are_not_left_for_any_number_of_ranks(parts):
    finish(parts, Ranks(1, 2))
    assert list(parts.left_for(Ranks())) == [0, 2]
    assert list(parts.left_for(Ranks(1, 3))) == []


@pytest.mark.parametrize("indices", [(4, 5, 6), (4, 5, 6, 6), (4, 5, 6, 8), (5, 4, 6, 7)])
def test_a_file_without_just_its_own_images_is_left_to_do(parts, indices):
    finish(parts)
    write_records(parts.folder / "000004.csv", rows(indices))
    assert list(parts.left_for(Ranks())) == [1]


def test_merge_refuses_a_missing_image(parts):
    finish(parts)
    path = parts.folder / "000004.csv"
    write_records(path, read_records(path)[:-1])
    with pytest.raises(StageError, match=r"1 missing \(test-000007\)"):
        parts.merge()


def test_merge_refuses_a_doubled_image(parts):
    finish(parts)
    path = parts.folder / "000004.csv"
    write_records(path, [*read_records(path), *rows([2])])
    with pytest.raises(StageError, match=r"1 doubled \(test-000002\)"):
        parts.merge()


def test_waiting_reports_progress_and_ends_when_all_is_there(parts):
    finish(parts)
    reports = []
    parts.wait_for_all(reports.append)
    assert reports == [10]


def test_waiting_for_a_dead_rank_ends_and_names_what_is_missing(parts):
    finish(parts, Ranks(0, 2))
    with pytest.raises(StageError, match=r"1 batches .* the first starts at test-000004"):
        parts.wait_for_all(lambda done: None, stall_s=0.3)
