"""The Slurm jobs of a pipeline: which were submitted, and how Slurm says that they stand."""

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StageError, UserError
from pipeline.files import FrozenModel, read_json, write_atomic

FOLDER_NAME = "slurm"
"""In a run's folder: the record of jobs, and their logs."""
JOBS_NAME = "jobs.json"
ANSWER_S = 60.0
"""A busy controller may take long; after this it is taken to be away."""


class Job(FrozenModel):
    """A job, or job array, that was submitted for a stage."""

    job_id: str
    tasks: dict[str, int] | None = None
    """Stage -> index in the array; None: a job for the one stage."""
    submitted: str

    def id_of(self, stage: str) -> str | None:
        """The id under which Slurm knows a stage's share of this job."""
        if self.tasks is None:
            return self.job_id
        return f"{self.job_id}_{self.tasks[stage]}" if stage in self.tasks else None


class _Jobs(FrozenModel):
    jobs: dict[str, Job]


@dataclass(frozen=True)
class Queued:
    """A job as squeue shows it."""

    state: str
    """PENDING, RUNNING, COMPLETING, ..."""
    reason: str
    nodes: str
    elapsed: str
    left: str

    @property
    def is_alive(self) -> bool:
        """True until it has ended for good."""
        return self.state in ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED") or (
            self.state.startswith("REQUEUE")
        )

    def __str__(self) -> str:
        if self.state == "PENDING":
            return f"waits ({self.reason})"
        where = f" on {self.nodes}" if self.nodes else ""
        return f"{self.state.lower()}{where}, {self.elapsed}, {self.left} left"


def read_jobs(run_dir: Path) -> dict[str, Job]:
    """The jobs last submitted, by the stage's name in the spec; none where there is no record."""
    try:
        return read_json(run_dir / FOLDER_NAME / JOBS_NAME, _Jobs, "submit the pipeline again").jobs
    except StageError:
        return {}


def write_jobs(run_dir: Path, jobs: Mapping[str, Job]) -> None:
    """Record the jobs."""
    text = _Jobs(jobs=dict(jobs)).model_dump_json(indent=2) + "\n"
    write_atomic(run_dir / FOLDER_NAME / JOBS_NAME, text, durable=True)


def look_up(jobs: Iterable[Job]) -> dict[str, Queued]:
    """What Slurm knows of jobs, by id, each task of an array for itself; it forgets ended ones.

    Raises:
        UserError: Slurm is not there, or does not answer.
    """
    ids = [job.job_id for job in jobs]
    if not ids:
        return {}
    fields = "%i|%T|%r|%N|%M|%L"
    listed = [f"--jobs={','.join(ids)}", "--array", "--noheader", "--states=all"]
    listing = call_slurm("squeue", *listed, f"--format={fields}", forgives="Invalid job id")
    rows = (line.split("|") for line in listing.splitlines())
    return {row[0]: Queued(*row[1:]) for row in rows if len(row) == 6}


def call_slurm(program: str, *arguments: str, forgives: str | None = None) -> str:
    """Run a program of Slurm and return what it prints.

    Args:
        program: `sbatch`, `squeue`, `scancel`, ...
        arguments: each one word, whatever is in it; no shell sees them.
        forgives: an error message that means "nothing".

    Raises:
        UserError: it is not installed, or refused; the message is Slurm's own.
    """
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, check=False, timeout=ANSWER_S
        )
    except FileNotFoundError:
        raise UserError(
            f"{program} is not installed here; go to a login node of the cluster, or run the "
            "pipeline on this machine with: python -m pipeline run"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{program} gave no answer within {ANSWER_S:.0f} s; try again") from None
    if done.returncode != 0 and not (forgives and forgives in done.stderr):
        words = re.sub(rf"^{program}: (error: )?", "", done.stderr, flags=re.MULTILINE).strip()
        raise UserError(f"{program} refused: {words or f'exit code {done.returncode}'}")
    return done.stdout
