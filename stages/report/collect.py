"""From the artifacts of a run to the tree of values that is its report; no other source is read."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.errors import StageError
from pipeline.execution.context import Context
from pipeline.store.artifacts import StageRecord, read_stage_record
from stages.data.catalogue import CATALOGUE
from stages.data.history import HISTORY_NAME, HistoryLine, read_history
from stages.data.manifest import Manifest, read_manifest
from stages.data.records import (
    RECORDS_FILE,
    Record,
    Summary,
    check_every_image_once,
    read_records,
    read_summary,
    summarise,
)
from stages.models.network_description import WEIGHTS_NAME, read_description, read_tensor_shapes
from stages.models.pruning_file import read_pruning
from stages.report.config import Settings
from stages.report.formats import eps_text, rate_text, shape_text
from stages.report.gallery import build_gallery
from stages.report.model import (
    ClassResult,
    ComparedNetwork,
    CurvePoint,
    Data,
    Layer,
    Network,
    PrunedPair,
    Report,
    Result,
    Share,
    Split,
    StageTime,
)
from stages.report.published import published_results
from stages.report.reproduce import reproduction
from stages.report.sweep import gather_sweep, of_first_member

UNTRAINED = ("running_mean", "columns", "starts", "floor")
"""Tensors that follow from images, or say which edges there are; not trained by steps."""
CURVE_STEPS = 200
"""Points of the fine curve: below one unit of the figure's width apart."""


def gather(context: Context, settings: Settings) -> Report:
    """Read the artifacts and compute every figure of the report from them.

    Raises:
        StageError: an artifact is damaged, or two of them contradict each other.
    """
    sweep, context = gather_sweep(context), of_first_member(context)
    manifest = read_manifest(context.inputs["data"])
    network = _network(context, settings, manifest)
    pruned_pair = _pruned_pair(context, manifest, network) if "pruned" in context.inputs else None
    stages = _stages(context)
    data = _data(manifest)
    eps = network.result.eps
    return Report(
        title=settings.title or f"{data.title}, certified at eps {eps_text(eps)}",
        pipeline=context.pipeline,
        data=data,
        networks=(network,),
        pruned_pair=pruned_pair,
        published=published_results(manifest.dataset, eps),
        stages=stages,
        times=_times(stages, data, network),
        reproduction=reproduction(context, settings, stages),
        sweep=sweep,
    )


def _stages(context: Context) -> tuple[StageRecord, ...]:
    """Every stage that the report follows from, those behind its own inputs too, as they ran."""
    found: dict[str, StageRecord] = {}
    folders = list(context.inputs.values())
    for folder in folders:
        record = read_stage_record(folder)
        if record.stage not in found:
            found[record.stage] = record
            folders.extend(folder.parent / source.stage for source in record.inputs.values())
    return tuple(sorted(found.values(), key=lambda stage: stage.start))


def _network(context: Context, settings: Settings, manifest: Manifest) -> Network:
    folder, records_dir = context.inputs["network"], context.inputs["records"]
    description = read_description(folder)
    records, result = _certified(records_dir, manifest)
    layers = _layers(folder)
    return Network(
        name=read_stage_record(folder).stage,
        kind=description.network.kind,
        layers=layers,
        num_parameters=sum(layer.num_parameters for layer in layers),
        num_bytes=(folder / WEIGHTS_NAME).stat().st_size,
        history=_history(folder),
        result=result,
        gallery=build_gallery(
            records, manifest, context.inputs["data"], result.split, settings.gallery_size
        ),
    )


def _pruned_pair(context: Context, manifest: Manifest, network: Network) -> PrunedPair:
    """Both networks on the same images at the same eps, or the table would compare nothing."""
    folder, records_dir = context.inputs["pruned"], context.inputs["pruned_records"]
    pruning = read_pruning(folder)
    result = _certified(records_dir, manifest)[1]
    ours = network.result
    if (result.split, result.eps) != (ours.split, ours.eps):
        raise StageError(
            f"{records_dir} holds the split {result.split!r} at eps {result.eps}, the network's "
            f"own records {ours.split!r} at eps {ours.eps}; certify both alike"
        )
    return PrunedPair(
        ComparedNetwork(network.name, pruning.num_edges_before, network.num_bytes, ours),
        ComparedNetwork(
            read_stage_record(folder).stage,
            pruning.num_edges,
            (folder / WEIGHTS_NAME).stat().st_size,
            result,
        ),
        pruning,
    )


def _certified(records_dir: Path, manifest: Manifest) -> tuple[Sequence[Record], Result]:
    """The rows of a certify stage and what they add up to."""
    summary = read_summary(records_dir)
    records = read_records(records_dir / RECORDS_FILE)
    check_every_image_once(records, summary.split, manifest.split(summary.split).num_images)
    return records, _result(records, summary, manifest, records_dir)


def _result(
    records: Sequence[Record], summary: Summary, manifest: Manifest, records_dir: Path
) -> Result:
    """Every figure is counted from the rows; summary.json must agree with them."""
    grid = [point.eps for point in summary.eps_grid]
    counted = summarise(records, summary.split, summary.eps, grid, summary.certified_method)
    if counted.model_dump(exclude={"seconds"}) != summary.model_dump(exclude={"seconds"}):
        raise StageError(
            f"{records_dir}: summary.json is not what {RECORDS_FILE} beside it adds up to; "
            "run the certify stage again with --force"
        )
    total = len(records)
    clean = Share(summary.num_clean_correct, total)
    exact_radii = sorted(record.exact_radius for record in records if record.is_correct)
    at_zero = CurvePoint(Fraction(0), clean)
    points = tuple(
        CurvePoint(point.eps, Share(point.num_certified, total)) for point in summary.eps_grid
    )
    return Result(
        split=summary.split,
        eps=summary.eps,
        method=summary.certified_method,
        clean=clean,
        pgd=Share(summary.num_pgd_correct, total),
        attacked=Share(summary.num_attacked_correct, total),
        certified=Share(summary.num_certified, total),
        grid=(at_zero, *(point for point in points if point.eps > 0)),
        curve=(at_zero, *_curve(exact_radii, max(summary.eps, *grid, Fraction(0)), total)),
        radii=tuple(float(radius) for radius in exact_radii),
        classes=_classes(records, manifest.classes),
        seconds=summary.seconds,
    )


def _curve(radii: Sequence[Fraction], last: Fraction, total: int) -> tuple[CurvePoint, ...]:
    """Images whose radius is beyond each of even steps from 0 to `last`; `radii` ascending."""
    steps = (last * step / CURVE_STEPS for step in range(1, CURVE_STEPS + 1)) if last else ()
    return tuple(
        CurvePoint(eps, Share(len(radii) - bisect_right(radii, eps), total)) for eps in steps
    )


def _classes(records: Sequence[Record], names: Sequence[str]) -> tuple[ClassResult, ...]:
    by_label = defaultdict[int, list[Record]](list)
    for record in records:
        by_label[record.label].append(record)
    return tuple(
        ClassResult(
            name=names[label],
            clean=Share(sum(row.is_correct for row in rows), len(rows)),
            attacked=Share(sum(row.attacked_correct for row in rows), len(rows)),
            certified=Share(sum(row.certified for row in rows), len(rows)),
        )
        for label, rows in sorted(by_label.items())
    )


def _layers(folder: Path) -> tuple[Layer, ...]:
    """Tensors grouped by the layer they belong to."""
    groups = defaultdict[str, list[tuple[str, tuple[int, ...]]]](list)
    for name, shape in read_tensor_shapes(folder).items():
        parts = name.split(".")
        layer = ".".join(parts[:2] if len(parts) > 2 else parts[:1])
        groups[layer].append((name.removeprefix(f"{layer}."), shape))
    return tuple(
        Layer(
            name=layer,
            tensors=tuple(f"{name} {shape_text(shape)}" for name, shape in tensors),
            num_parameters=sum(
                math.prod(shape) for name, shape in tensors if not name.endswith(UNTRAINED)
            ),
        )
        for layer, tensors in groups.items()
    )


def _history(folder: Path) -> tuple[HistoryLine, ...]:
    return read_history(folder) if (folder / HISTORY_NAME).exists() else ()


def _data(manifest: Manifest) -> Data:
    known = CATALOGUE.get(manifest.dataset)
    return Data(
        name=manifest.dataset,
        title=known.title if known else manifest.dataset,
        classes=manifest.classes,
        image_shape=manifest.image_shape,
        mean=manifest.mean,
        std=manifest.std,
        seed=manifest.seed,
        sources=manifest.sources,
        splits=tuple(
            Split(
                name=name,
                num_images=split.num_images,
                num_shards=len(split.shards),
                num_bytes=sum(shard.num_bytes for shard in split.shards),
            )
            for name, split in manifest.splits.items()
        ),
    )


def _times(stages: Sequence[StageRecord], data: Data, network: Network) -> tuple[StageTime, ...]:
    num_sharded = sum(split.num_images for split in data.splits)
    return tuple(
        StageTime(
            stage=stage.stage,
            kind=stage.kind,
            num_ranks=stage.num_ranks,
            start=stage.start,
            seconds=stage.seconds,
            throughput={
                "shard": rate_text(num_sharded, stage.seconds, "images"),
                "train": _training_rate(network.history),
                "certify": rate_text(network.result.clean.total, stage.seconds, "images"),
            }.get(stage.kind, ""),
        )
        for stage in stages
    )


def _training_rate(history: Sequence[HistoryLine]) -> str:
    """Total over total: every step has equally many images, so steps stand for images."""
    last_steps = [0, *(line.step for line in history)]
    spans = [(line.step - last, line) for last, line in zip(last_steps, history, strict=False)]
    measured = [(steps, line) for steps, line in spans if line.images_per_s > 0]
    num_steps = sum(steps for steps, _ in measured)
    return rate_text(
        num_steps, sum(steps / line.images_per_s for steps, line in measured), "images"
    )
