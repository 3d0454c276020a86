"""`progress.json` in a working folder: how far the stage is, for `status` on whatever machine."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

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


def write_progress(working_dir: Path, pulse: ProgressLine) -> None:
    """Write it by rename; a disk that refuses is no reason to stop a stage."""
    temporary = working_dir / f".{PROGRESS_NAME}.tmp"
    try:
        temporary.write_text(json.dumps({**asdict(pulse), "time": time.time()}), encoding="utf-8")
        temporary.rename(working_dir / PROGRESS_NAME)
    except OSError:
        return


def read_progress(working_dir: Path) -> ProgressLine | None:
    """What the stage last said; None where it has said nothing."""
    try:
        return ProgressLine(**json.loads((working_dir / PROGRESS_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
