"""How a pipeline stands: a table of its stages, as its files and Slurm show them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.jobs import Job, Queued, look_up, read_jobs
from pipeline.errors import UserError
from pipeline.monitor.console import print_table
from pipeline.monitor.formatting import bytes_text, duration_text
from pipeline.monitor.progress_file import read_progress
from pipeline.spec.load import Spec
from pipeline.store.artifacts import partial_dir
from pipeline.store.lock import Holder, current_holder
from pipeline.store.staleness import Assessment, Verdict, assess


@dataclass(frozen=True)
class Row:
    """One stage."""

    stage: str
    state: str
    job: str = ""
    """Its job and where that stands: `17 running on n1, 3:12, 56:48 left`."""
    progress: str = ""
    """How far it is, and its newest figures."""
    finished: str = ""
    took: str = ""
    size: str = ""


USUAL = ("stage", "state", "finished", "took", "size")
"""Columns that are always there; the others where a stage has something to say in them."""


def print_status(spec: Spec, run_dir: Path, only: Sequence[str], verify_hashes: bool) -> None:
    """Print a line a stage, or for each of `only`: its state, and when and how it was made.

    Files come first: what is up to date is so whatever has become of its job. Slurm then says of
    the others whether they wait, and for what, or run, and where.
    """
    assessments = assess(spec, run_dir, verify_hashes)
    jobs = read_jobs(run_dir)
    queued, silence = _ask_slurm(jobs)
    rows = [
        _row(found, run_dir, jobs.get(found.stage.base), queued)
        for name, found in assessments.items()
        if not only or name in only
    ]
    columns = [name for name in Row.__annotations__ if name in USUAL or _is_used(name, rows)]
    cells = [[getattr(row, name) for name in columns] for row in rows]
    print_table(f"{spec.name} in {run_dir}", columns, cells)
    if silence:
        print(f"jobs: {silence}")


def state_text(assessment: Assessment, holder: Holder | None, queued: Queued | None) -> str:
    """The state of a stage: `up to date`, `stale: epochs changed from 12 to 3`, ..."""
    is_in_slurm = queued is not None and queued.is_alive
    if holder and not is_in_slurm:
        return f"running: process {holder.pid} on {holder.host}"
    if assessment.is_up_to_date:
        return "up to date"
    if queued and is_in_slurm:
        return "running" if queued.state == "RUNNING" else "queued"
    if assessment.has_earlier_attempt:
        what = "continues where it stopped" if assessment.can_resume else "starts anew"
        return f"incomplete: the next run {what}"
    if assessment.verdict is Verdict.NEVER_RUN:
        return "never run"
    return f"stale: {'; '.join(assessment.reasons)}"


def _row(
    assessment: Assessment, run_dir: Path, job: Job | None, queued: Mapping[str, Queued]
) -> Row:
    name, record = assessment.stage.name, assessment.record
    job_id = job.id_of(name) if job else None
    found = queued.get(job_id) if job_id else None
    state = state_text(assessment, current_holder(run_dir / name), found)
    done = assessment.is_up_to_date
    row = Row(
        stage=name,
        state=state,
        job="" if done or not job_id else f"{job_id} {found or 'ended'}",
        progress="" if done else _progress(run_dir / name),
    )
    if record is None:
        return row
    return Row(
        **{name: value for name, value in vars(row).items() if value},
        finished=record.end.astimezone().strftime("%Y-%m-%d %H:%M"),
        took=duration_text(record.seconds),
        size=bytes_text(_bytes_on_disk(run_dir / name)),
    )


def _progress(artifact_dir: Path) -> str:
    pulse = read_progress(partial_dir(artifact_dir))
    if pulse is None:
        return ""
    return f"{pulse}; {pulse.note}" if pulse.note else str(pulse)


def _ask_slurm(jobs: Mapping[str, Job]) -> tuple[Mapping[str, Queued], str]:
    """What Slurm knows of the jobs, or why it says nothing: the files still tell most."""
    try:
        return look_up(jobs.values()), ""
    except UserError as error:
        return {}, str(error)


def _is_used(column: str, rows: Sequence[Row]) -> bool:
    return any(getattr(row, column) for row in rows)


def _bytes_on_disk(folder: Path) -> int:
    """Bytes of every file, those that only serve to resume included."""
    return sum(
        os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118
        for parent, _, names in os.walk(folder)
        for name in names
    )
