"""`progress.json` in a working folder tells `status`, on any machine, how far the stage is."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.files import write_atomic
from pipeline.monitor.formatting import left_text

PROGRESS_NAME = "progress.json"


@dataclass(frozen=True)
class ProgressLine:
    """How far a running stage is."""

    done: int
    total: int
    unit: str
    rate: float
    """Units a second of the last while."""
    note: str = ""
    """The newest figures, e.g. `loss 0.31`."""
    time: float = 0.0
    """When this was written, in seconds since 1970."""

    @property
    def share(self) -> float:
        """What is done of the whole, in [0, 1]."""
        return self.done / self.total if self.total else 1.0

    def __str__(self) -> str:
        left = (self.total - self.done) / self.rate if self.rate > 0 else None
        pace = f", {left_text(left)} left" if left is not None else ""
        return f"{self.share:.0%} of {self.total:,} {self.unit}{pace}"


def write_progress(working_dir: Path, line: ProgressLine) -> None:
    """Write how far a stage is; a disk that refuses is no reason to stop the stage."""
    text = json.dumps({**asdict(line), "time": time.time()})
    with suppress(OSError):
        write_atomic(working_dir / PROGRESS_NAME, text)


def read_progress(working_dir: Path) -> ProgressLine | None:
    """Read how far a stage last was; None where it has not said so yet."""
    try:
        return ProgressLine(**json.loads((working_dir / PROGRESS_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
