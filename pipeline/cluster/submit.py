"""Sends the stages of a pipeline to Slurm as a chain of jobs, and takes them back."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.cluster.jobs import (
    FOLDER_NAME,
    Job,
    Queued,
    call_slurm,
    look_up,
    read_jobs,
    write_jobs,
)
from pipeline.errors import UserError
from pipeline.monitor.console import say
from pipeline.spec.load import Spec, Stage
from pipeline.store.staleness import Assessment, assess

HOME = Path(__file__).parents[2]
"""The checkout whose job script and environment the jobs use."""


@dataclass(frozen=True)
class SubmitOptions:
    """How to submit a pipeline, besides what its spec says."""

    runs_dir: Path = Path("runs")
    only: tuple[str, ...] = ()
    is_forced: bool = False
    overrides: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    """Flags of sbatch typed by hand; they win over the spec's."""


def submit_pipeline(spec: Spec, options: SubmitOptions) -> None:
    """Submit every stage that is not up to date, each behind the stages that it reads.

    A stage whose job still waits or runs is not submitted again; what reads it waits for that job.

    Raises:
        UserError: Slurm refuses, or cannot write a log in the folder of runs.
    """
    _Submission(spec, options.runs_dir / spec.name, options).run()


def cancel_jobs(spec: Spec, run_dir: Path, only: Sequence[str]) -> None:
    """Cancel the jobs of a pipeline that still wait or run; what they have done is kept.

    Raises:
        UserError: Slurm refuses.
    """
    jobs = read_jobs(run_dir)
    queued = look_up(jobs.values())
    for name, job in jobs.items():
        chosen = [stage for stage in spec.stages if stage.base == name]
        ids = [job.id_of(stage.name) for stage in chosen if not only or stage.name in only]
        alive = [one for one in ids if one and one in queued and queued[one].is_alive]
        if alive:
            call_slurm("scancel", *alive)
            say(name, f"job {job.job_id} cancelled")


class _Submission:
    def __init__(self, spec: Spec, run_dir: Path, options: SubmitOptions) -> None:
        self.spec, self.run_dir, self.options = spec, run_dir, options
        self.jobs = read_jobs(run_dir)
        self.alive = _alive(self.jobs)
        self.assessments = assess(spec, run_dir)

    def run(self) -> None:
        if "\\" in str(self.run_dir):
            raise UserError(
                f"{self.run_dir}: Slurm cannot write a log under a path with a backslash; "
                "choose another with --runs"
            )
        (self.run_dir / FOLDER_NAME).mkdir(parents=True, exist_ok=True)
        for base in dict.fromkeys(stage.base for stage in self.spec.stages):
            stages = [stage for stage in self.spec.stages if stage.base == base]
            self._submit_where_due(base, stages)

    def _submit_where_due(self, base: str, stages: list[Stage]) -> None:
        due = [stage for stage in stages if self._is_due(stage)]
        if base in self.alive:
            say(base, f"job {self.jobs[base].job_id} {self.alive[base]}")
        elif not due:
            is_chosen = any(self._is_chosen(stage) for stage in stages)
            say(base, "up to date" if is_chosen else "not chosen", is_done=is_chosen)
        else:
            job = self._send(base, due)
            self.jobs[base] = job
            self.alive[base] = Queued("PENDING", "submitted", "", "", "")
            write_jobs(self.run_dir, self.jobs)
            say(base, f"job {job.job_id}: {self._reason(due)}")

    def _is_chosen(self, stage: Stage) -> bool:
        return not self.options.only or stage.name in self.options.only

    def _is_due(self, stage: Stage) -> bool:
        found = self.assessments[stage.name]
        return self._is_chosen(stage) and (self.options.is_forced or not found.is_up_to_date)

    def _reason(self, due: list[Stage]) -> str:
        found: Assessment = self.assessments[due[0].name]
        some = f"{len(due)} members; " if due[0].member is not None else ""
        return some + "; ".join(found.reasons or ("--force",))

    def _send(self, base: str, due: list[Stage]) -> Job:
        tasks = {stage.name: stage.member for stage in due if stage.member is not None}
        command = [
            *self._fixed_flags(base, sorted(tasks.values())),
            *self.spec.resources.of(base).limited_to(due[0].settings.max_ranks).flags(),
            *self._dependency(due),
            *self.options.flags,
            str(HOME / "slurm" / "stage.sh"),
            due[0].kind,
            *self._arguments(base),
        ]
        os.environ["SUPNORM_HOME"] = str(HOME)  # a job's script is a copy, far from its folder
        job_id = call_slurm("sbatch", *command).strip().split(";")[0]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Job(job_id=job_id, tasks=tasks or None, submitted=now)

    def _fixed_flags(self, base: str, members: list[int]) -> list[str]:
        place = str(self.run_dir / FOLDER_NAME / base).replace("%", "%%")
        flags = ["--parsable", "--kill-on-invalid-dep=yes", f"--job-name={self.spec.name}.{base}"]
        if members:
            return [*flags, f"--output={place}-%A_%a.log", f"--array={_ranges(members)}"]
        return [*flags, f"--output={place}-%j.log"]

    def _dependency(self, due: list[Stage]) -> list[str]:
        """On what is under way; a job of the past that Slurm has forgotten would hold nothing."""
        sources = {self.spec.stage(source).base for s in due for source in s.inputs.values()}
        ids = [self.jobs[source].job_id for source in sorted(sources) if source in self.alive]
        return [f"--dependency=afterok:{':'.join(ids)}"] if ids else []

    def _arguments(self, base: str) -> list[str]:
        options = self.options
        chosen = [f"--stage={base}", f"--runs={options.runs_dir}"]
        forced = ["--force"] if options.is_forced else []
        return [
            str(self.spec.path),
            *chosen,
            *(f"--set={item}" for item in options.overrides),
            *forced,
        ]


def _alive(jobs: Mapping[str, Job]) -> dict[str, Queued]:
    """The jobs that still wait or run, by stage; of an array the first task that does."""
    queued = look_up(jobs.values())
    alive = {}
    for name, job in jobs.items():
        ids = [job.job_id] if job.tasks is None else map(job.id_of, job.tasks)
        found = [queued[one] for one in ids if one in queued and queued[one].is_alive]
        if found:
            alive[name] = found[0]
    return alive


def _ranges(numbers: Sequence[int]) -> str:
    """Indices as sbatch takes them: `0-3,7`."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in parts)
