"""How a pipeline stands: a table of its stages."""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.figures import bytes_text, duration_text
from pipeline.lock import Holder, current_holder
from pipeline.plan import Assessment, Verdict, assess
from pipeline.screen import print_table
from pipeline.spec import Spec

COLUMNS = ("stage", "state", "finished", "took", "size")


def print_status(spec: Spec, run_dir: Path, only: Sequence[str], is_every_byte_read: bool) -> None:
    """Print a line a stage, or for each of `only`: its state, and when and how it was made."""
    assessments = assess(spec, run_dir, is_every_byte_read)
    rows = [_row(found, run_dir) for name, found in assessments.items() if not only or name in only]
    print_table(f"{spec.name} in {run_dir}", COLUMNS, rows)


def state_text(assessment: Assessment, holder: Holder | None) -> str:
    """The state of a stage: `up to date`, `stale: epochs changed from 12 to 3`, ..."""
    if holder:
        return f"running: process {holder.pid} on {holder.host}"
    if assessment.is_up_to_date:
        return "up to date"
    if assessment.has_earlier_try:
        what = "continues where it stopped" if assessment.can_resume else "starts anew"
        return f"incomplete: the next run {what}"
    if assessment.verdict is Verdict.NEVER_RUN:
        return "never run"
    return f"stale: {'; '.join(assessment.reasons)}"


def _row(assessment: Assessment, run_dir: Path) -> tuple[str, ...]:
    name, record = assessment.stage.name, assessment.record
    state = state_text(assessment, current_holder(run_dir / name))
    if record is None:
        return name, state, "", "", ""
    finished = record.end.astimezone().strftime("%Y-%m-%d %H:%M")
    size = bytes_text(_bytes_on_disk(run_dir / name))
    return name, state, finished, duration_text(record.seconds), size


def _bytes_on_disk(folder: Path) -> int:
    """Bytes of every file, those that only serve to resume included."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118
        for parent, _, names in os.walk(folder)
        for name in names
    )
