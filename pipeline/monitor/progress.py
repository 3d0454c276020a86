"""Progress of a long step: a live bar on a terminal, one line a minute elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from pipeline.monitor.formatting import duration_text, left_text
from pipeline.monitor.progress_file import ProgressLine

QUIET_INTERVAL_S = 60.0
"""The time between two lines where the output is not a terminal."""
REDRAW_INTERVAL_S = 0.1
"""The time between two drawings of the live bar; steps can be far shorter."""
PROGRESS_INTERVAL_S = 2.0
"""The time between two calls of the listener, for those who look from elsewhere."""
BAR_WIDTH = 16
WINDOW_S = 30.0
"""The rate is measured over this time, so that it follows a pace that changes."""


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
        self.total, self._unit = total, unit
        self._is_shown, self._is_live = is_shown, is_shown and sys.stdout.isatty()
        self._listener = listener
        self._bar = _bar(self._is_live)
        self._number = self._bar.add_task(title, total=total, note="", pace="")
        self._task = self._bar.tasks[0]
        self._note, self._done_before = "", 0
        self._last_shown = self._last_told = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """Report `count` more of the total done; `note` is shown beside it, e.g. `loss 0.31`."""
        self._note = note or self._note
        self._bar.update(self._number, advance=count)
        now = time.monotonic()
        if self._listener and now - self._last_told >= PROGRESS_INTERVAL_S:
            self._tell()
        interval = REDRAW_INTERVAL_S if self._is_live else QUIET_INTERVAL_S
        if not self._is_shown or now - self._last_shown < interval:
            return
        self._last_shown = now
        if self._is_live:
            self._draw()
        else:
            self._print(f", {self._pace()}")

    def start_at(self, done: int) -> None:
        """Begin with what an earlier attempt has done; it does not count towards the rate."""
        self._bar.reset(self._number, completed=done)
        self._done_before = done
        self._last_shown = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._is_shown:
            took, mean = duration_text(self._task.elapsed), self._mean_rate()
            rate = f" ({_rate_text(mean)}/s)" if mean else ""
            self._print(f" in {took}{rate}")
        if self._listener:
            self._tell()

    def _tell(self) -> None:
        assert self._listener
        self._last_told = time.monotonic()
        self._listener(
            ProgressLine(self._task.completed, self.total, self._unit, self._rate(), self._note)
        )

    def _mean_rate(self) -> float:
        """Return the units a second since the start; 0 at the start itself."""
        elapsed = self._task.elapsed
        return (self._task.completed - self._done_before) / elapsed if elapsed > 0 else 0.0

    def _rate(self) -> float:
        """Return the units a second of the last `WINDOW_S`, or since the start if nothing moved."""
        return self._task.speed or self._mean_rate()

    def _pace(self) -> str:
        rate = self._rate()
        left = f", {left_text(self._task.remaining / rate)} left" if rate > 0 else ""
        return f"{_rate_text(rate)} {self._unit}/s{left}"

    def _count(self) -> str:
        return f"{self._task.completed:,}/{self.total:,} {self._unit}"

    def _print(self, text: str) -> None:
        note = f", {self._note}" if self._note else ""
        print(f"{self._task.description}: {self._count()}{text}{note}", flush=True)

    def _draw(self) -> None:
        pace = f"{self._count()}, {self._pace()}"
        self._bar.update(self._number, pace=pace, note=self._note, refresh=True)


def track(
    title: str,
    total: int,
    unit: str,
    is_shown: bool = True,
    listener: Callable[[ProgressLine], None] | None = None,
) -> Progress:
    """Make a progress display with rate and time left.

    Args:
        title: what is being done, e.g. `train: steps`.
        total: how many units make the whole.
        unit: the plural of what is counted, e.g. `images`.
        is_shown: False makes it silent (every rank but the first).
        listener: is told every few seconds, and at the end, how far it is.
    """
    return Progress(title, total, unit, is_shown, listener)


def _rate_text(rate: float) -> str:
    """Write a rate with three figures or more and no powers of ten: `0.0123`, `4.56`, `98,765`."""
    if rate >= 100:
        return f"{rate:,.0f}"
    decimals = 2 if rate >= 1 else 4
    return f"{rate:.{decimals}f}" if rate else "0"


def _bar(is_live: bool) -> Any:
    """Make the bar of rich, which counts and measures the rate; it draws only where it is live."""
    # rich costs 60 ms that `check` need not pay
    from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    def words(field: str, style: str = "none", ratio: int | None = None) -> TextColumn:
        column = Column(no_wrap=True, overflow="ellipsis", ratio=ratio)
        return TextColumn(f"{{task.{field}}}", style, markup=False, table_column=column)

    # The bar gives way to a plain last line, which stays on the screen and in a log.
    return RichProgress(
        words("description"),
        BarColumn(BAR_WIDTH),
        words("fields[pace]"),
        words("fields[note]", "dim", ratio=1),
        transient=True,
        expand=True,
        auto_refresh=False,
        speed_estimate_period=WINDOW_S,
        get_time=time.monotonic,
        disable=not is_live,
    )
