"""How far a stage is, told to those who look from elsewhere."""

from pipeline.monitor import progress
from pipeline.monitor.progress import track
from pipeline.monitor.progress_file import (
    PROGRESS_NAME,
    ProgressLine,
    read_progress,
    write_progress,
)


def test_progress_is_read_as_it_was_written(tmp_path):
    assert read_progress(tmp_path) is None
    write_progress(tmp_path, ProgressLine(30, 120, "steps", 2.0, "loss 0.31"))
    found = read_progress(tmp_path)
    assert (found.share, found.note) == (0.25, "loss 0.31")
    assert str(found) == "25% of 120 steps, 45 s left"
    (tmp_path / PROGRESS_NAME).write_text('{"done": 1}')
    assert read_progress(tmp_path) is None


def test_a_folder_that_is_gone_stops_no_stage(tmp_path):
    write_progress(tmp_path / "gone", ProgressLine(1, 2, "steps", 0.0))


def test_a_listener_hears_now_and_then_and_at_the_end(monkeypatch):
    monkeypatch.setattr(progress, "PROGRESS_INTERVAL_S", 0.0)
    heard = []
    with track("work", 3, "items", is_shown=False, listener=heard.append) as items:
        for _ in range(3):
            items.advance(note="x")
    assert [line.done for line in heard] == [1, 2, 3, 3]
