"""Progress of a long step: a live bar on a terminal, one line a minute elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Self

QUIET_INTERVAL_S = 60.0


class Progress:
    """Counts what is done of a known total; a context manager. `track` makes one."""

    def __init__(self, title: str, total: int, unit: str, is_shown: bool) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._done = self._done_before = 0
        self._note = ""
        self._start = self._last_line = time.monotonic()
        self._bar: Any = None
        self._is_shown = is_shown

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report `count` more of the total done; `note` is shown beside it, e.g. `loss 0.31`."""
        self._done += count
        self._note = note or self._note
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note, rate=self._rate())
        elif self._is_shown and time.monotonic() - self._last_line >= QUIET_INTERVAL_S:
            self._last_line = time.monotonic()
            print(self._line(), flush=True)

    def start_at(self, done: int) -> None:
        """Begin with `done` already done by an earlier try; it does not count towards the rate."""
        self._done = self._done_before = done

    def __enter__(self) -> Self:
        if self._is_shown and sys.stdout.isatty():
            self._bar = _live_bar()
            self._task = self._bar.add_task(self.title, total=self.total, note="", rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._is_shown:
            print(self._line(), flush=True)

    def _rate(self) -> str:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        return f"{(self._done - self._done_before) / elapsed:,.4g} {self.unit}/s"

    def _line(self) -> str:
        elapsed = time.monotonic() - self._start
        done_here = self._done - self._done_before
        left = elapsed * (self.total - self._done) / done_here if done_here else float("inf")
        timing = f"{elapsed:.0f} s" if self._done >= self.total else f"{left:.0f} s left"
        note = f", {self._note}" if self._note else ""
        return f"{self.title}: {self._done:,}/{self.total:,} {self.unit}, {self._rate()}, {timing}{note}"


def track(title: str, total: int, unit: str, is_shown: bool = True) -> Progress:
    """A progress display with rate and time left.

    Args:
        title: what is being done, e.g. `train: steps`.
        total: how many units make the whole.
        unit: the plural of what is counted, e.g. `images`.
        is_shown: False makes it silent (every rank but the first).
    """
    return Progress(title, total, unit, is_shown)


def _live_bar() -> Any:
    from rich.progress import (  # noqa: PLC0415  rich costs 50 ms that `check` need not pay
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress  # noqa: PLC0415

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
