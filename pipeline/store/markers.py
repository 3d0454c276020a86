"""How the last try of a stage ended, as files in its working folder: exit codes can get lost.

DONE      the result is complete; it stays with the artifact
STOPPED   the stage was asked to stop and has; the same command goes on from where it was
neither   it runs, or it has failed, or its machine is gone
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from pipeline.store.artifacts import DONE_NAME, STOPPED_NAME, write_durably


def clear_markers(working_dir: Path) -> None:
    """A new try begins."""
    for name in (DONE_NAME, STOPPED_NAME):
        (working_dir / name).unlink(missing_ok=True)


def mark_done(working_dir: Path) -> None:
    """Say that the result is complete."""
    write_durably(working_dir / DONE_NAME, _line({}))


def mark_stopped(working_dir: Path, signal_name: str | None, reason: str) -> None:
    """Say that the stage has stopped because `signal_name` asked it to."""
    write_durably(working_dir / STOPPED_NAME, _line({"signal": signal_name, "reason": reason}))


def is_done(working_dir: Path) -> bool:
    """True when the result is complete."""
    return (working_dir / DONE_NAME).exists()


def is_stopped(working_dir: Path) -> bool:
    """True when the stage has stopped on request."""
    return (working_dir / STOPPED_NAME).exists()


def _line(facts: dict[str, str | None]) -> str:
    return json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **facts}) + "\n"
