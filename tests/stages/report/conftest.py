"""Artifacts of a small run, written by the writers that the stages use, and the report on them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.execution.context import Context
from pipeline.spec.settings import StageSettings, nested_inputs
from pipeline.store.artifacts import (
    InputRecord,
    StageRecord,
    output_names,
    partial_dir,
    publish,
    read_stage_record,
    seal,
)
from pipeline.store.digests import artifact_digest, file_digests, recorded_settings
from pipeline.store.provenance import Machine
from stages.certify.config import Settings as CertifySettings
from stages.data.history import HistoryLine, append_history
from stages.data.manifest import Manifest, Split, image_key, write_manifest
from stages.data.records import (
    RECORDS_FILE,
    Record,
    summarise,
    write_records,
    write_summary,
)
from stages.data.shards import Images, Sample, write_block_shard
from stages.models.config import AnyNetworkSettings
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, SparseMLPSettings
from stages.models.linf.network import build_network
from stages.models.network_file import save_network
from stages.models.pruning_file import (
    Accuracy,
    CurvePoint,
    PrunedLayer,
    Pruning,
    write_pruning,
)
from stages.prune.config import Settings as PruneSettings
from stages.report.config import Settings
from stages.report.run import run
from stages.shard.config import Settings as ShardSettings
from stages.train.config import Settings as TrainSettings

EPS = Fraction(1, 10)
GRID = tuple(Fraction(step, 50) for step in range(16))
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@dataclass(frozen=True)
class Run:
    """What the artifacts of a run hold; each field can be changed by a test."""

    dataset: str = "fashion_mnist"
    classes: tuple[str, ...] = CLASSES
    image_shape: tuple[int, int, int] = (28, 28, 1)
    num_images: int = 400
    eps: Fraction = EPS
    grid: tuple[Fraction, ...] = GRID
    records: tuple[Record, ...] | None = None
    num_validations: int | None = 30
    """None: the network comes without a history."""
    seed: int = 0
    source: str | None = None
    pruned_eps: Fraction | None = None
    """Where the pruned network beside the full one was certified; None: there is none."""
    is_pruned_alone: bool = False
    """Whether the report is on the pruned network, and the full one is not among its inputs."""


@pytest.fixture(scope="session")
def make_report() -> Callable[..., Path]:
    """Writes artifacts under a folder, runs the stage on them, returns where the report is."""

    def make(
        folder: Path,
        settings: dict[str, object] | None = None,
        spoil: Callable[[Path], None] | None = None,
        **what: Any,
    ) -> Path:
        context = artifacts(folder, Run(**what))
        if spoil:
            spoil(folder)
        inputs = nested_inputs({name: folder.name for name, folder in context.inputs.items()})
        run(context, Settings.model_validate({"inputs": inputs, **(settings or {})}))
        return context.output_dir

    return make


@pytest.fixture(scope="session")
def report_dir(tmp_path_factory: pytest.TempPathFactory, make_report: Callable[..., Path]) -> Path:
    """The report on an ordinary run."""
    return make_report(tmp_path_factory.mktemp("run"))


def artifacts(folder: Path, what: Run) -> Context:
    """Folders as the stages before this one leave them, committed."""
    shard_dir, train_dir, certify_dir = (
        partial_dir(folder / name) for name in ("shard", "train", "certify")
    )
    output_dir = partial_dir(folder / "report")
    for path in (shard_dir, train_dir, certify_dir, output_dir):
        path.mkdir(parents=True)
    _write_shards(shard_dir, what)
    _write_network(train_dir, what)
    _write_history(train_dir, what)
    records = what.records if what.records is not None else make_records(what)
    write_records(certify_dir / RECORDS_FILE, records)
    write_summary(
        certify_dir,
        summarise(records, "test", "linf", what.eps, what.grid, "exact margin+interval"),
    )
    _commit(folder / "shard", shard_settings(what), {}, 12.3)
    _commit(folder / "train", train_settings(what), {"data": "shard"}, 546.0)
    _commit(folder / "certify", certify_settings(what), {"data": "shard", "network": "train"}, 71.8)
    inputs = {"data": "shard", "records-1": "certify"}
    if what.pruned_eps is not None:
        _write_pruned(folder, what, records)
        inputs["records-2"] = "certify_pruned"
    if what.is_pruned_alone:
        inputs = {"data": "shard", "records-1": "certify_pruned"}
    return Context(
        pipeline="quickstart",
        stage="report",
        output_dir=output_dir,
        inputs={name: folder / stage for name, stage in inputs.items()},
    )


def shard_settings(what: Run) -> StageSettings:
    return ShardSettings(dataset=what.dataset, source=what.source, seed=3)


def train_settings(what: Run) -> StageSettings:
    return TrainSettings.model_validate(
        {
            "inputs": {"data": "shard"},
            "network": {"kind": "distance_mlp", "width": 16, "depth": 3},
            "loss": {"kind": "hinge", "mix": 1.0},
            "eps": what.eps,
            "eps_train": Fraction(9, 40),
            "rule": {"kind": "rising_p", "rise_epoch": 4.5, "infinite_epoch": 27},
            "schedule": {"epochs": 30},
            "seed": what.seed,
        }
    )


def certify_settings(what: Run) -> StageSettings:
    return CertifySettings.model_validate(
        {
            "inputs": {"data": "shard", "network": "train"},
            "eps": what.eps,
            "eps_grid": what.grid,
        }
    )


MACHINE = Machine(
    host="bench",
    system="Linux 6.1",
    cpu="A processor @ 2.10GHz",
    num_cores=2,
    memory_bytes=8 * 2**30,
    gpus=(),
)


def _commit(
    folder: Path,
    settings: StageSettings,
    inputs: dict[str, str],
    seconds: float,
    kind: str | None = None,
) -> None:
    working_dir = partial_dir(folder)
    outputs = file_digests(working_dir, output_names(working_dir))
    start = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)
    record = StageRecord(
        pipeline="quickstart",
        stage=folder.name,
        kind=kind or folder.name,
        settings=recorded_settings(settings),
        inputs={
            name: InputRecord(stage=stage, digest=read_stage_record(folder.with_name(stage)).digest)
            for name, stage in inputs.items()
        },
        code={"kernels": "a" * 64, f"stages.{kind or folder.name}": "b" * 64},
        work_digest="c" * 64,
        digest=artifact_digest(outputs),
        outputs=outputs,
        git_commit="0123456789abcdef0123456789abcdef01234567",
        git_has_changes=False,
        packages={"python": "3.11.2", "torch": "2.14.1", "numpy": "2.4.6"},
        machine=MACHINE,
        num_ranks=1,
        seed=getattr(settings, "seed", None),
        start=start,
        end=start + timedelta(seconds=seconds),
        seconds=seconds,
        num_attempts=1,
        exit=0,
    )
    seal(folder, record)
    publish(folder)


def make_records(what: Run) -> tuple[Record, ...]:
    """Rows with margins like a trained network's: most images proved, some broken, some wrong."""
    random = np.random.default_rng(7)
    rows = []
    for index in range(what.num_images):
        label = int(random.integers(len(what.classes)))
        margin = float(random.normal(0.9, 0.75))
        is_correct = margin > 0
        radius = max(margin, 0.0) * 0.352 / 2 if is_correct else 0.0
        is_certified = what.eps < Fraction(radius)
        is_unbroken = is_correct and (is_certified or bool(random.random() < 0.35))
        rows.append(
            Record(
                key=image_key("test", index),
                label=label,
                predicted=label if is_correct else (label + 1) % len(what.classes),
                margin=margin,
                radius=radius,
                certified=is_certified,
                attacked_correct=is_unbroken,
                method="margin" if radius else "none",
                seconds=0.002,
                exact_radius=Fraction(radius),
                pgd_correct=is_unbroken or (is_correct and index % 3 == 0),
                image_sha256="d" * 64,
            )
        )
    return tuple(rows)


def _write_shards(folder: Path, what: Run) -> None:
    splits = {}
    for split, num_images in (("train", 64), ("validation", 32), ("test", what.num_images)):
        samples = [
            Sample(
                image_key(split, first),
                _draw(range(first, min(first + 256, num_images)), what),
                np.arange(first, min(first + 256, num_images)) % len(what.classes),
            )
            for first in range(0, num_images, 256)
        ]
        shard = write_block_shard(folder / f"{split}-000000.tar", samples)
        splits[split] = Split(num_images=num_images, shards=(shard,))
    manifest = Manifest(
        dataset=what.dataset,
        classes=what.classes,
        image_shape=what.image_shape,
        mean=(0.286,) * what.image_shape[2],
        std=0.352,
        seed=3,
        images_per_block=256,
        sources=(),
        splits=splits,
    )
    write_manifest(folder, manifest)


def _draw(indices: range, what: Run) -> Images:
    """A ring on a ramp, different for each index."""
    height, width, num_channels = what.image_shape
    y, x = np.mgrid[0:height, 0:width]
    images = []
    for index in indices:
        distance = np.hypot(y - height / 2, x - width / 2)
        ring = np.exp(-(((distance - 3 - index % 8) / 2) ** 2))
        images.append(200 * ring + (index * 7 % 50) * x / width)
    stacked = np.stack(images).astype(np.uint8)[..., None]
    return np.repeat(stacked, num_channels, axis=3)


def _write_network(folder: Path, what: Run) -> None:
    _save(folder, DistanceMLPSettings(kind="distance_mlp", width=16, depth=3), what)


def _save(folder: Path, settings: AnyNetworkSettings, what: Run) -> None:
    torch.manual_seed(0)
    save_network(
        folder,
        build_network(settings, what.image_shape, len(what.classes)),
        settings,
        dataset=what.dataset,
        image_shape=what.image_shape,
        classes=what.classes,
        normalisation=Normalisation((0.286,) * what.image_shape[2], 0.352),
    )


def _write_pruned(folder: Path, what: Run, records: Sequence[Record]) -> None:
    """A prune stage and a certify stage of it, with the rows of the full network."""
    prune_dir, certify_dir = (partial_dir(folder / name) for name in ("prune", "certify_pruned"))
    prune_dir.mkdir()
    certify_dir.mkdir()
    settings = SparseMLPSettings(
        kind="sparse_mlp", widths=(13, len(what.classes)), num_edges=(40, 25)
    )
    _save(prune_dir, settings, what)
    write_pruning(prune_dir, pruning_of(what))
    assert what.pruned_eps is not None
    rows = [row.model_copy(update={"certified": row.radius > what.pruned_eps}) for row in records]
    write_records(certify_dir / RECORDS_FILE, rows)
    summary = summarise(rows, "test", "linf", what.pruned_eps, what.grid, "exact margin+interval")
    write_summary(certify_dir, summary)
    prune = PruneSettings.model_validate(
        {"inputs": {"data": "shard", "network": "train"}, "eps": what.eps}
    )
    _commit(folder / "prune", prune, {"data": "shard", "network": "train"}, 9.0)
    certify = certify_settings(replace(what, eps=what.pruned_eps))
    _commit(
        folder / "certify_pruned", certify, {"data": "shard", "network": "prune"}, 20.0, "certify"
    )


def pruning_of(what: Run) -> Pruning:
    layers = [
        PrunedLayer(
            num_edges_before=1000,
            num_edges=num_edges,
            num_outputs_before=16,
            num_outputs=num_outputs,
            num_constant=1,
            num_unused=2,
            use_histogram=(900, 10, 20, 30, 40),
        )
        for num_edges, num_outputs in ((40, 13), (25, 10))
    ]
    full = Accuracy(num_correct=90, num_certified=80)
    return Pruning(
        rule="edges that decide for at least 3 training images",
        sparsity=0.9675,
        eps=what.eps,
        num_training_images=64,
        num_validation_images=100,
        before=full,
        after=Accuracy(num_correct=89, num_certified=79),
        is_fine_tuned=False,
        layers=tuple(layers),
        curve=tuple(
            CurvePoint(sparsity=sparsity, accuracy=accuracy)
            for sparsity, accuracy in (
                (0.9, full),
                (0.97, Accuracy(num_correct=88, num_certified=77)),
                (0.99, Accuracy(num_correct=50, num_certified=20)),
            )
        ),
    )


def _write_history(folder: Path, what: Run) -> None:
    if what.num_validations is None:
        return
    for number in range(1, what.num_validations + 1):
        progress = number / what.num_validations
        rise = min(1, max(0, (progress - 0.15) / 0.75))
        append_history(
            folder,
            HistoryLine(
                step=number * 105,
                epoch=number,
                progress=progress,
                eps_train=0.225,
                learning_rate=0.02 * (1 - progress),
                extra={"p": math.inf if progress > 0.9 else 8 * 125**rise},
                train_loss=0.3 + 0.7 * math.exp(-4 * progress),
                train_accuracy=0.80 - 0.3 * math.exp(-5 * progress),
                eps=what.eps,
                num_validation_images=5000,
                validation_clean_accuracy=round(0.76 - 0.4 * math.exp(-6 * progress), 4),
                validation_certified_accuracy=round(0.71 - 0.6 * math.exp(-4 * progress), 4),
                data_wait_share=0.01,
                images_per_s=4000 + 30 * number,
                seconds=15.0 * number,
            ),
        )
