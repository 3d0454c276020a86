"""What would happen to each stage, and why: compares what it would be made from with its record."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pipeline.errors import StageError, UserError
from pipeline.spec.diagnostics import shown
from pipeline.spec.load import Spec, Stage
from pipeline.store.artifacts import (
    RECORD_NAME,
    StageRecord,
    damage,
    partial_dir,
    read_stage_record,
)
from pipeline.store.attempt import read_earlier_attempt
from pipeline.store.digests import code_digests, deciding_settings, work_digest


class Verdict(Enum):
    """Whether a stage's committed artifact can be used as it is."""

    UP_TO_DATE = "up to date"
    NEVER_RUN = "never run"
    STALE = "stale"
    """Something that the result follows from has changed, or a file of it was damaged."""
    WAITS = "waits"
    """A stage that it reads runs first; if that comes out as before, this one is up to date."""


@dataclass(frozen=True)
class Assessment:
    """What is known of one stage."""

    stage: Stage
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it is not up to date: `epochs changed from 12 to 3`."""
    work_digest: str | None
    """Digest of all that its result would follow from; None until its inputs are up to date."""
    code: Mapping[str, str]
    """Digest of each package whose sources decide the result."""
    record: StageRecord | None
    """The record of the committed artifact, up to date or not."""
    has_earlier_attempt: bool
    """A working folder is there, from an attempt that stopped or runs now."""
    can_resume: bool
    """The earlier attempt was at the same work, and is continued."""

    @property
    def is_up_to_date(self) -> bool:
        """True when there is nothing to do."""
        return self.verdict is Verdict.UP_TO_DATE


def assess(spec: Spec, run_dir: Path, verify_hashes: bool = False) -> dict[str, Assessment]:
    """Assess every stage of a pipeline, in running order.

    Args:
        spec: the pipeline.
        run_dir: `runs/<pipeline>`; it need not exist.
        verify_hashes: True also finds files altered without a change of size.

    Raises:
        UserError: a folder that no run wrote stands where an artifact belongs.
    """
    ready: dict[str, StageRecord] = {}
    assessments = {}
    for stage in spec.stages:
        found = assess_stage(spec, stage, run_dir, ready, verify_hashes)
        assessments[stage.name] = found
        if found.is_up_to_date and found.record:
            ready[stage.name] = found.record
    return assessments


def assess_stage(
    spec: Spec,
    stage: Stage,
    run_dir: Path,
    ready: Mapping[str, StageRecord],
    verify_hashes: bool = False,
) -> Assessment:
    """Assess one stage; `ready` holds the records of the stages that are up to date."""
    artifact_dir = run_dir / stage.name
    code = code_digests(spec.package, stage)
    waits_for = [source for source in stage.inputs.values() if source not in ready]
    digest = None
    if not waits_for:
        sources = {name: ready[source].digest for name, source in stage.inputs.items()}
        digest = work_digest(stage, code, sources)
    record, reasons = _read_committed(artifact_dir, verify_hashes)
    if record:
        reasons += _changes(stage, code, record, ready)
    if not reasons and waits_for:
        reasons.append(f"{' and '.join(dict.fromkeys(waits_for))} must run first")
        verdict = Verdict.WAITS
    elif not artifact_dir.exists():
        verdict = Verdict.NEVER_RUN
    elif record and record.work_digest == digest and not reasons:
        verdict = Verdict.UP_TO_DATE
    else:
        verdict = Verdict.STALE
    earlier = read_earlier_attempt(artifact_dir)
    return Assessment(
        stage,
        verdict,
        tuple(reasons),
        digest,
        code,
        record,
        has_earlier_attempt=partial_dir(artifact_dir).exists(),
        can_resume=earlier is not None and earlier.work_digest == digest,
    )


def what_would_happen(assessment: Assessment, is_forced: bool = False) -> str:
    """One line of a plan: `runs: epochs changed from 12 to 3`."""
    if assessment.is_up_to_date:
        return "runs: --force" if is_forced else "up to date"
    if assessment.verdict is Verdict.WAITS and not is_forced:
        sources = dict.fromkeys(assessment.stage.inputs.values())
        return f"runs if {' or '.join(sources)} comes out different"
    resumed = "; continues an earlier attempt" if assessment.can_resume and not is_forced else ""
    return f"runs: {'; '.join(assessment.reasons)}{resumed}"


def _read_committed(
    artifact_dir: Path, verify_hashes: bool
) -> tuple[StageRecord | None, list[str]]:
    """The record of an artifact, and what is wrong with its files."""
    if not artifact_dir.exists():
        return None, ["never run"]
    if not (artifact_dir / RECORD_NAME).exists():
        raise UserError(
            f"{artifact_dir} has no {RECORD_NAME}, so no run wrote it; move it away, or choose "
            "another place with --runs"
        )
    try:
        record = read_stage_record(artifact_dir)
    except StageError as error:
        return None, [str(error)]
    harm = damage(artifact_dir, record, verify_hashes)
    return record, [f"{artifact_dir / harm}"] if harm else []


def _changes(
    stage: Stage,
    code: Mapping[str, str],
    record: StageRecord,
    ready: Mapping[str, StageRecord],
) -> list[str]:
    """What has changed since the artifact was made."""
    changes = []
    if record.kind != stage.kind:
        changes.append(f"kind changed from {record.kind} to {stage.kind}")
    decided = {k: v for k, v in record.settings.items() if k not in stage.settings.runtime_only}
    changes += _setting_changes(decided, deciding_settings(stage.settings))
    for package in sorted(code.keys() | record.code.keys()):
        if code.get(package) != record.code.get(package):
            changes.append(f"code of {package} changed")
    for name, source in stage.inputs.items():
        before = record.inputs.get(name)
        if before is None:
            changes.append(f"input {name} is new")
        elif source in ready and before.digest != ready[source].digest:
            changes.append(f"input {name} ({source}) changed")
    changes += [f"input {name} is gone" for name in record.inputs.keys() - stage.inputs.keys()]
    return changes


def _setting_changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    old, new = dict(_flat(before)), dict(_flat(now))
    for name in dict.fromkeys((*new, *old)):
        if name not in old:
            yield f"{name} is new ({shown(new[name])})"
        elif name not in new:
            yield f"{name} is gone"
        elif old[name] != new[name]:
            yield f"{name} changed from {shown(old[name])} to {shown(new[name])}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
