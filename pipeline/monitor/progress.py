"""Progress of a long step: a live bar on a terminal, one line a minute elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pipeline.monitor.formatting import duration_text, left_text
from pipeline.monitor.progress_file import ProgressLine

QUIET_INTERVAL_S = 60.0
"""Between two lines where output is no terminal."""
REDRAW_INTERVAL_S = 0.1
"""Between two looks at the clock for the live bar; steps can be far shorter."""
PROGRESS_INTERVAL_S = 2.0
"""Between two notices for those who look from elsewhere."""
BAR_WIDTH = 16
WINDOW_S = 30.0
"""The rate shown is that of this last while: a step whose pace changes is judged as it is now."""


class Progress:
    """Counts what is done of a known total; a context manager. `track` makes one."""

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        is_shown: bool,
        listener: Callable[[ProgressLine], None] | None,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self._listener = listener
        self._done = self._done_before = 0
        self._note = ""
        self._start = self._last_shown = self._last_told = time.monotonic()
        self._past: deque[tuple[float, int]] = deque([(self._start, 0)])
        self._bar: Any = None
        self._is_shown = is_shown

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report `count` more of the total done; `note` is shown beside it, e.g. `loss 0.31`."""
        self._done += count
        self._note = note or self._note
        interval = QUIET_INTERVAL_S if self._bar is None else REDRAW_INTERVAL_S
        now = time.monotonic()
        if self._listener and now - self._last_told >= PROGRESS_INTERVAL_S:
            self._tell(now)
        if not self._is_shown or now - self._last_shown < interval:
            return
        self._last_shown = now
        self._remember(now)
        if self._bar is None:
            print(self._line(now), flush=True)
        else:
            self._draw(now)

    def start_at(self, done: int) -> None:
        """Begin with `done` already done by an earlier try; it does not count towards the rate."""
        self._done = self._done_before = done
        self._start = self._last_shown = time.monotonic()
        self._past = deque([(self._start, done)])

    def __enter__(self) -> Self:
        if self._is_shown and sys.stdout.isatty():
            self._bar = _live_bar()
            self._task = self._bar.add_task(self.title, total=self.total, note="", pace="")
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
        if self._is_shown:
            print(self._last_line(time.monotonic()), flush=True)
        if self._listener:
            self._tell(time.monotonic())

    def _tell(self, now: float) -> None:
        assert self._listener
        self._last_told = now
        self._remember(now)
        self._listener(ProgressLine(self._done, self.total, self.unit, self._rate(now), self._note))

    def _remember(self, now: float) -> None:
        self._past.append((now, self._done))
        while len(self._past) > 2 and now - self._past[1][0] >= WINDOW_S:
            self._past.popleft()

    def _rate(self, now: float) -> float:
        """Units a second of the last while."""
        then, done_then = self._past[0]
        return (self._done - done_then) / max(now - then, 1e-9)

    def _pace(self, now: float) -> str:
        rate = self._rate(now)
        left = f", {left_text((self.total - self._done) / rate)} left" if rate > 0 else ""
        return f"{_rate_text(rate)} {self.unit}/s{left}"

    def _line(self, now: float) -> str:
        note = f", {self._note}" if self._note else ""
        return f"{self._head()}, {self._pace(now)}{note}"

    def _last_line(self, now: float) -> str:
        elapsed = now - self._start
        done_here = self._done - self._done_before
        mean = f" ({_rate_text(done_here / elapsed)}/s)" if done_here and elapsed > 0 else ""
        note = f", {self._note}" if self._note else ""
        return f"{self._head()} in {duration_text(elapsed)}{mean}{note}"

    def _head(self) -> str:
        return f"{self.title}: {self._done:,}/{self.total:,} {self.unit}"

    def _draw(self, now: float) -> None:
        pace = f"{self._done:,}/{self.total:,} {self.unit}, {self._pace(now)}"
        room = self._bar.console.width - len(self.title) - BAR_WIDTH - len(pace) - 4
        note = self._note if len(self._note) <= room else self._note[: max(0, room - 1)] + "…"
        self._bar.update(self._task, completed=self._done, pace=pace, note=note, refresh=True)


def track(
    title: str,
    total: int,
    unit: str,
    is_shown: bool = True,
    listener: Callable[[ProgressLine], None] | None = None,
) -> Progress:
    """A progress display with rate and time left.

    Args:
        title: what is being done, e.g. `train: steps`.
        total: how many units make the whole.
        unit: the plural of what is counted, e.g. `images`.
        is_shown: False makes it silent (every rank but the first).
        listener: is told every few seconds, and at the end, how far it is.
    """
    return Progress(title, total, unit, is_shown, listener)


def _rate_text(rate: float) -> str:
    """Three figures or more, never in powers of ten: `0.0123`, `4.56`, `123`, `98,765`."""
    if rate >= 100:
        return f"{rate:,.0f}"
    decimals = 2 if rate >= 1 else 4
    return f"{rate:.{decimals}f}" if rate else "0"


def _live_bar() -> Any:
    # rich costs 60 ms that `check` need not pay
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    def words(field: str, style: str = "none") -> TextColumn:
        whole = Column(no_wrap=True)
        return TextColumn(f"{{task.{field}}}", style, markup=False, table_column=whole)

    # The bar gives way to a plain last line, which stays on the screen and in a log.
    return RichProgress(
        words("description"),
        BarColumn(BAR_WIDTH),
        words("fields[pace]"),
        words("fields[note]", "dim"),
        transient=True,
        auto_refresh=False,
    )
