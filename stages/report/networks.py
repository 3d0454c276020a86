"""One network of a report: the rows of the stage that certified it, and the files it lies in."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.errors import StageError
from pipeline.store.artifacts import read_stage_record
from stages.data.history import HISTORY_NAME, HistoryLine, read_history
from stages.data.manifest import Manifest
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
from stages.models.pruning_file import PRUNING_NAME, read_pruning
from stages.report.formats import shape_text
from stages.report.gallery import build_gallery
from stages.report.model import ClassResult, CurvePoint, Layer, Network, Result, Share

CURVE_STEPS = 200
"""Points of the fine curve: below one unit of the figure's width apart."""


def collect_network(
    records_dir: Path, data_dir: Path, manifest: Manifest, gallery_size: int
) -> Network:
    """The network that a certify stage certified, and what it found.

    Args:
        records_dir: the certify stage's artifact; the network's lies beside it.
        data_dir: the shards.
        manifest: theirs.
        gallery_size: images in each row of the gallery.

    Raises:
        StageError: an artifact is damaged, or the records are of other images or another network.
    """
    folder = _certified_network(records_dir, data_dir)
    description = read_description(folder)
    summary = read_summary(records_dir)
    records = read_records(records_dir / RECORDS_FILE)
    check_every_image_once(records, summary.split, manifest.split(summary.split).num_images)
    layers = _layers(folder, description.network.untrained)
    return Network(
        name=read_stage_record(folder).stage,
        records=read_stage_record(records_dir).stage,
        kind=description.network.kind,
        layers=layers,
        num_parameters=sum(layer.num_parameters for layer in layers),
        num_bytes=(folder / WEIGHTS_NAME).stat().st_size,
        words=description.network.words,
        history=_history(folder),
        pruning=read_pruning(folder) if (folder / PRUNING_NAME).exists() else None,
        result=_result(records, summary, manifest, records_dir),
        gallery=build_gallery(records, manifest, data_dir, summary.split, gallery_size),
    )


def _certified_network(records_dir: Path, data_dir: Path) -> Path:
    """The folder of the network that was certified, if it and the images are still the same."""
    inputs = read_stage_record(records_dir).inputs
    network_dir = records_dir.parent / inputs["network"].stage
    for folder, read in ((data_dir, inputs["data"]), (network_dir, inputs["network"])):
        if read_stage_record(folder).digest != read.digest:
            raise StageError(
                f"{records_dir} was made from another {read.stage} than {folder} holds now; run "
                "the pipeline again, or name the shard stage that it was certified on"
            )
    return network_dir


def _result(
    records: Sequence[Record], summary: Summary, manifest: Manifest, records_dir: Path
) -> Result:
    """Every figure is counted from the rows; summary.json must agree with them."""
    grid = [point.eps for point in summary.eps_grid]
    counted = summarise(
        records, summary.split, summary.norm, summary.eps, grid, summary.certified_method
    )
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
        norm=summary.norm,
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


def _layers(folder: Path, untrained: Collection[str]) -> tuple[Layer, ...]:
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
                math.prod(shape) for name, shape in tensors if name.split(".")[-1] not in untrained
            ),
        )
        for layer, tensors in groups.items()
    )


def _history(folder: Path) -> tuple[HistoryLine, ...]:
    return read_history(folder) if (folder / HISTORY_NAME).exists() else ()
