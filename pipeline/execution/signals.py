"""Requests to stop: noted at once, obeyed where it is safe."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_REQUESTS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Requests that reach a process started inside wait until its `RankStop` listens.

    Without that, one that comes while the process still imports its modules ends it: by Python's
    traceback, or before it could leave a marker.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _REQUESTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class RankStop:
    """SIGTERM and SIGUSR1 in a rank: a stage that watches for them stops where it can resume.

    One that does not watch is interrupted, by KeyboardInterrupt. So is any stage by SIGINT, which
    a launcher sends when another rank has failed.
    """

    def __init__(self) -> None:
        self.signal_name: str | None = None
        """Name of the signal that asked, e.g. SIGTERM."""
        self._is_watched = False

    def listen(self) -> None:
        """Take the signals from now on, in the main thread, those that were held back too."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _REQUESTS)

    @property
    def is_made(self) -> bool:
        """True once somebody has asked."""
        return self.signal_name is not None

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, a request changes nothing but `is_made`, which the stage looks at."""
        self._is_watched = True
        try:
            yield
        finally:
            self._is_watched = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_repeated = self.is_made  # a batch system and a launcher may both ask
        self.signal_name = self.signal_name or signal.Signals(number).name
        if not self._is_watched and not is_repeated:
            raise KeyboardInterrupt


class RunnerStop:
    """While this context is open, the first request to stop is noted; Ctrl-C then interrupts."""

    def __init__(self) -> None:
        self.requested: str | None = None
        """Name of the signal that asked, e.g. SIGINT."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = self.requested or signal.Signals(number).name
