"""Ctrl-C, SIGTERM and a closed terminal: noted at once, obeyed where it is safe."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class StopSignals:
    """While this context is open, the first request to stop is noted; a second one interrupts."""

    def __init__(self) -> None:
        self.requested: str | None = None
        """Name of the signal that asked, e.g. SIGINT."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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
        if self.requested:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
