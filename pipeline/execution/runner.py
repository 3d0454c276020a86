"""Runs the stages of a pipeline that are not up to date, in order, and commits each one."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import (
    ExitCode,
    InterruptedRun,
    StageError,
    StageStopped,
    SupnormError,
    UserError,
    disk_error,
)
from pipeline.execution import srun
from pipeline.execution.launch import Ended, num_ranks_offered, run_ranks
from pipeline.execution.signals import RunnerStop
from pipeline.monitor.console import say
from pipeline.monitor.formatting import bytes_text, duration_text
from pipeline.ranks import Ranks
from pipeline.spec.load import Spec, Stage
from pipeline.store.artifacts import (
    InputRecord,
    StageRecord,
    is_cut_off,
    is_sealed,
    output_names,
    partial_dir,
    publish,
    read_stage_record,
    repair,
    seal,
)
from pipeline.store.attempt import (
    Attempt,
    is_done,
    is_stopped,
    prepare_working_dir,
    write_attempt,
)
from pipeline.store.digests import artifact_digest, file_digests
from pipeline.store.lock import hold_locks
from pipeline.store.provenance import git_state, package_versions, this_machine
from pipeline.store.staleness import Assessment, assess, assess_stage, what_would_happen


@dataclass(frozen=True)
class RunOptions:
    """How to run a pipeline, besides what its spec says."""

    runs_dir: Path = Path("runs")
    only: tuple[str, ...] = ()
    """Stages to run; empty: all. Stages that they read must be up to date."""
    is_forced: bool = False
    """Run even what is up to date, and resume nothing."""
    num_ranks: int | None = None
    """Processes for a stage; None: one for each GPU or task of the job, else one."""
    command: str = "python -m pipeline run"
    """The command that goes on after a stop, for messages."""


def run_pipeline(spec: Spec, options: RunOptions) -> None:
    """Run every stage that is not up to date; committed stages are kept whatever happens later.

    Raises:
        UserError: an input of a chosen stage is not up to date, a place cannot be used, or a
            launcher has started this command several times.
        StageError: a stage failed; what it has done so far is kept for the next attempt.
        BusyError: another run holds this pipeline.
        InterruptedRun: Ctrl-C, SIGTERM, SIGUSR1 or a closed terminal.
    """
    _refuse_foreign_launcher()
    run_dir = options.runs_dir / spec.name
    _make_run_dir(run_dir)
    try:
        with RunnerStop() as stop:
            _Run(spec, run_dir, options, stop).run()
    except OSError as error:
        trouble = disk_error(error, run_dir)
        if trouble is None:
            raise
        raise type(trouble)(f"{trouble}\nThen go on with: {options.command}") from None
    except KeyboardInterrupt:
        raise InterruptedRun(f"interrupted; go on with: {options.command}") from None


def _refuse_foreign_launcher() -> None:
    num_ranks = Ranks.from_environment().world_size
    if num_ranks > 1:
        raise UserError(
            f"a launcher has started this command {num_ranks} times; start it once, without "
            f"torchrun or srun: it starts its ranks itself, with --ranks {num_ranks} on one "
            "machine, by `sbatch slurm/stage.sh KIND CONFIG` in a Slurm job"
        )


def _make_run_dir(run_dir: Path) -> None:
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{run_dir}: this folder cannot be made ({error.strerror}); choose another with --runs"
        ) from None


def refuse_stale_inputs(spec: Spec, run_dir: Path, only: Sequence[str]) -> None:
    """Check that what the chosen stages read is up to date, or chosen too.

    Raises:
        UserError: it is not; the message says why and what to run first.
    """
    assessments = assess(spec, run_dir)
    for name in only:
        stage = spec.stage(name)
        for source in stage.inputs.values():
            found = assessments[source]
            if source not in only and not found.is_up_to_date:
                reasons = "; ".join(found.reasons)
                raise UserError(
                    f"{name} reads {source}, which is not up to date ({reasons}); first run: "
                    f"python -m pipeline run {spec.path} --stage {source}"
                )


@dataclass(frozen=True)
class _Run:
    spec: Spec
    run_dir: Path
    options: RunOptions
    stop: RunnerStop

    def run(self) -> None:
        for stage in self.spec.stages:
            self._mend(stage.name)
        chosen = self.options.only or tuple(stage.name for stage in self.spec.stages)
        refuse_stale_inputs(self.spec, self.run_dir, chosen)
        ready: dict[str, StageRecord] = {}
        for stage in self.spec.stages:
            assessment = assess_stage(self.spec, stage, self.run_dir, ready)
            record = assessment.record if assessment.is_up_to_date else None
            if stage.name in chosen:
                record = self._bring_up_to_date(assessment, ready)
            if record:
                ready[stage.name] = record

    def _mend(self, stage: str) -> None:
        artifact_dir = self.run_dir / stage
        if is_cut_off(artifact_dir):
            with hold_locks(artifact_dir):
                say(stage, repair(artifact_dir) or "committed by another run")

    def _bring_up_to_date(
        self, assessment: Assessment, ready: Mapping[str, StageRecord]
    ) -> StageRecord:
        stage, is_forced = assessment.stage, self.options.is_forced
        say(stage.name, what_would_happen(assessment, is_forced), is_done=assessment.is_up_to_date)
        if assessment.is_up_to_date and assessment.record and not is_forced:
            return assessment.record
        if self.stop.requested:
            raise InterruptedRun(f"{stage.name}: not begun\nGo on with: {self.options.command}")
        artifact_dir = self.run_dir / stage.name
        read = sorted({self.run_dir / source for source in stage.inputs.values()})
        with hold_locks(artifact_dir, read) as lock_descriptor:
            self._make(assessment, ready, lock_descriptor)
        record = read_stage_record(artifact_dir)
        size = bytes_text(record.num_bytes)
        say(stage.name, f"done in {duration_text(record.seconds)}, {size}", is_done=True)
        return record

    def _make(
        self, assessment: Assessment, ready: Mapping[str, StageRecord], lock_descriptor: int
    ) -> None:
        """Run the stage, unless an earlier attempt left its complete result, and commit it."""
        stage, is_fresh = assessment.stage, self.options.is_forced and not srun.is_restart()
        artifact_dir = self.run_dir / stage.name
        assert assessment.work_digest, "the inputs of a chosen stage are up to date"
        if is_fresh or not is_sealed(artifact_dir, assessment.work_digest):
            attempt = prepare_working_dir(
                artifact_dir, self.spec, stage, assessment.work_digest, is_fresh
            )
            seal(artifact_dir, self._run_ranks(attempt, assessment, ready, lock_descriptor))
        publish(artifact_dir)

    def _run_ranks(
        self,
        attempt: Attempt,
        assessment: Assessment,
        ready: Mapping[str, StageRecord],
        lock_descriptor: int,
    ) -> StageRecord:
        """Run the stage in its working folder; the record says how, and what came out."""
        stage = assessment.stage
        working_dir = partial_dir(self.run_dir / stage.name)
        num_ranks = self._num_ranks(stage)
        if num_ranks > 1:
            say(stage.name, f"{num_ranks} ranks")
        commit, has_changes = git_state(self.spec.package)
        start, clock = datetime.now(UTC), time.monotonic()
        ended = run_ranks(working_dir, num_ranks, self.stop, lock_descriptor)
        seconds = attempt.seconds_before + time.monotonic() - clock
        if not ended.is_ok or is_stopped(working_dir):
            raise self._failure(attempt, ended, seconds)
        outputs = file_digests(working_dir, output_names(working_dir))
        if not outputs or not is_done(working_dir):
            missing = "the first one has not finished" if outputs else "no file was written"
            raise StageError(f"{stage.name}: every rank returned, but {missing}")
        return StageRecord(
            pipeline=self.spec.name,
            stage=stage.name,
            kind=stage.kind,
            settings=attempt.settings,
            inputs={
                name: InputRecord(stage=source, digest=ready[source].digest)
                for name, source in stage.inputs.items()
            },
            code=dict(assessment.code),
            work_digest=attempt.work_digest,
            digest=artifact_digest(outputs),
            outputs=outputs,
            git_commit=commit,
            git_has_changes=has_changes,
            packages=package_versions(),
            machine=this_machine(),
            num_ranks=num_ranks,
            seed=getattr(stage.settings, "seed", None),
            start=start,
            end=datetime.now(UTC),
            seconds=round(seconds, 3),
            num_attempts=attempt.num_attempts,
            exit=ExitCode.OK,
        )

    def _num_ranks(self, stage: Stage) -> int:
        most = stage.settings.max_ranks
        if most == 1:
            return 1  # asks for no GPU
        wanted = self.options.num_ranks or num_ranks_offered()
        return min(wanted, most) if most else wanted

    def _failure(self, attempt: Attempt, ended: Ended, seconds: float) -> SupnormError:
        working_dir = partial_dir(self.run_dir / attempt.stage)
        with suppress(OSError):  # the disk may be full
            write_attempt(working_dir, attempt.model_copy(update={"seconds_before": seconds}))
        is_asked = ended.is_ok or ended.signal_name
        message = (
            f"{attempt.stage}: {'its ranks were asked to stop' if ended.is_ok else ended}\n"
            f"What it has done so far is kept in {working_dir}, and so is every finished stage.\n"
            f"Go on with: {self.options.command}"
        )
        if is_asked:
            is_calm = is_stopped(working_dir) and ended.signal_name not in ("SIGINT", "SIGHUP")
            return InterruptedRun(message, ExitCode.OK if is_calm else ExitCode.INTERRUPTED)
        return StageStopped(message, ended.exit_code)
