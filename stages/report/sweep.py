"""A sweep in a report: every member's figures, and their mean and spread over the seeds."""

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from pipeline.execution.context import Context
from pipeline.spec.load import base_name
from pipeline.spec.sweep import Sweep
from pipeline.store.artifacts import read_stage_record
from stages.data.manifest import read_manifest
from stages.data.records import RECORDS_FILE, check_every_image_once, read_records, read_summary
from stages.report.model import Mean, Share, SweepGroup, SweepMember, SweepTable


def inputs_of(inputs: Mapping[str, Path], member: str) -> dict[str, Path]:
    """What one member of a sweep reads, by the plain names of inputs.

    Args:
        inputs: `network.eps-1_10.seed-0` -> folder; an input may depend on some axes only.
        member: `eps-1_10.seed-0`; empty where there is no sweep.
    """
    parts = set(member.split("."))
    return {
        name.partition(".")[0]: folder
        for name, folder in inputs.items()
        if set(name.split(".")[1:]) <= parts
    }


def records_dirs(inputs: Mapping[str, Path]) -> list[Path]:
    """The certify stages among a report's inputs, in the order of the settings."""
    return [folder for name, folder in inputs.items() if name.startswith("records-")]


def of_first_member(context: Context) -> Context:
    """The surroundings as if there were no other member."""
    name = next(iter(context.sweep.members)) if context.sweep else ""
    return replace(context, inputs=inputs_of(context.inputs, name))


def collect_sweep(context: Context) -> SweepTable | None:
    """Count every member's figures from its records; None where there is no sweep.

    Raises:
        StageError: the records of a member are not every image once.
    """
    sweep = context.sweep
    if sweep is None:
        return None
    members = tuple(
        _member(folder, inputs["data"], tuple(labels.values()))
        for name, labels in sweep.members.items()
        for inputs in [inputs_of(context.inputs, name)]
        for folder in records_dirs(inputs)
    )
    axes = tuple(next(iter(sweep.members.values())))
    return SweepTable(axes, sweep.seeds, members, _groups(sweep, axes, members))


def _member(records_dir: Path, data_dir: Path, labels: tuple[str, ...]) -> SweepMember:
    summary = read_summary(records_dir)
    records = read_records(records_dir / RECORDS_FILE)
    split = read_manifest(data_dir).split(summary.split)
    network = read_stage_record(records_dir).inputs["network"].stage
    check_every_image_once(records, summary.split, split.num_images)
    return SweepMember(
        labels=labels,
        network=base_name(network),
        eps=summary.eps,
        clean=Share(sum(row.is_correct for row in records), len(records)),
        attacked=Share(sum(row.attacked_correct for row in records), len(records)),
        certified=Share(sum(row.certified for row in records), len(records)),
    )


def _groups(
    sweep: Sweep, axes: tuple[str, ...], members: tuple[SweepMember, ...]
) -> tuple[SweepGroup, ...]:
    """The members that differ in their seeds only, together."""
    kept = [number for number, axis in enumerate(axes) if axis not in sweep.seeds]
    alike = defaultdict[tuple[str, tuple[str, ...]], list[SweepMember]](list)
    for member in members:
        alike[member.network, tuple(member.labels[number] for number in kept)].append(member)
    return tuple(
        SweepGroup(
            labels=labels,
            network=network,
            num_members=len(group),
            clean=_mean([member.clean for member in group]),
            attacked=_mean([member.attacked for member in group]),
            certified=_mean([member.certified for member in group]),
        )
        for (network, labels), group in alike.items()
    )


def _mean(shares: list[Share]) -> Mean:
    """Counts are summed; the spread is the standard deviation of a sample, n - 1 below."""
    accuracies = [Fraction(share.count, share.total) for share in shares]
    spread = float(statistics.stdev(accuracies)) if len(accuracies) > 1 else None
    pooled = Share(sum(share.count for share in shares), sum(share.total for share in shares))
    return Mean(pooled, spread)
