"""Progress: lines in a log, a bar on a terminal, silence on every rank but the first."""

import os
import pty
import subprocess
import sys

import pytest

from pipeline.monitor import progress
from pipeline.monitor.progress import track

PROGRAM = """
import time
from pipeline.monitor.progress import track
with track("train: steps", 40, "steps") as progress:
    progress.start_at(10)
    for step in range(30):
        time.sleep(0.02)
        progress.advance(note=f"loss {step}")
print("after")
"""


def test_a_log_gets_one_line_an_interval_and_one_at_the_end(capsys, monkeypatch):
    clock = _Clock(monkeypatch)
    with track("train: steps", 4000, "steps") as steps:
        for _ in range(960):
            clock.now += 0.125
            steps.advance(note="loss 0.31")
    assert capsys.readouterr().out.splitlines() == [
        "train: steps: 480/4,000 steps, 8.00 steps/s, 7 min 20 s left, loss 0.31",
        "train: steps: 960/4,000 steps, 8.00 steps/s, 6 min 20 s left, loss 0.31",
        "train: steps: 960/4,000 steps in 2 min 00 s (8.00/s), loss 0.31",
    ]


def test_the_time_left_follows_the_pace_of_the_last_while(capsys, monkeypatch):
    clock = _Clock(monkeypatch)
    monkeypatch.setattr(progress, "QUIET_INTERVAL_S", 10.0)
    with track("work", 10_000, "items") as items:
        for seconds_each in (0.01,) * 3000 + (1.0,) * 60:
            clock.now += seconds_each
            items.advance()
    *_, late, _ = capsys.readouterr().out.splitlines()
    assert late.endswith("1.00 items/s, 1 h 56 min left")


def test_what_an_earlier_try_did_is_counted_but_not_as_speed(capsys, monkeypatch):
    clock = _Clock(monkeypatch)
    with track("work", 100, "items") as items:
        items.start_at(90)
        clock.now += 5
        items.advance(10)
    assert capsys.readouterr().out == "work: 100/100 items in 5.00 s (2.00/s)\n"


def test_a_step_that_fails_says_how_far_it_came(capsys):
    with pytest.raises(ValueError, match="x"), track("work", 10, "items") as items:
        items.advance(3)
        raise ValueError("x")
    assert capsys.readouterr().out.startswith("work: 3/10 items in 0.0")


def test_other_ranks_are_silent(capsys):
    with track("work", 1, "items", is_shown=False) as items:
        items.advance()
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_live_bar_that_gives_way_to_one_line():
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=follower, stderr=follower, env=environment
    )
    os.close(follower)
    output = b""
    while chunk := _read(leader):
        output += chunk
    process.wait()
    os.close(leader)
    text = output.decode()
    assert "━" in text
    assert "steps/s" in text
    assert "loss" in text
    last_but_one, last = text.replace("\x1b[2K", "").splitlines()[-2:]
    assert "train: steps: 40/40 steps in " in last_but_one
    assert last == "after"


class _Clock:
    """Time as the progress display sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # Linux says so when the last writer has gone
        return b""
