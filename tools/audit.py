"""`supnorm audit`: certified records against the shipped network, the shards and an attack.

Every row: the image's digest and label are those of the shards, and prediction, margin and radius
come out again. Some rows, drawn at random: the proof is repeated in Python integers, and the image
is attacked with the settings of the run, certified or not.
"""

import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pipeline.errors import StageError, UserError
from pipeline.store.artifacts import damage, read_stage_record
from stages.certify.attack import Attack
from stages.certify.config import Settings
from stages.data.batches import Batch
from stages.data.counter_rng import Stream, permutation
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import read_manifest
from stages.data.records import (
    RECORDS_FILE,
    Record,
    check_every_image_once,
    image_digest,
    read_records,
    read_summary,
    summarise,
)
from stages.models.certifier import AuditedCertifier
from stages.models.family import family_of

MOST_SHOWN = 5
"""Findings that the error names; the rest is counted."""


@dataclass(frozen=True)
class Evidence:
    """What was certified, and everything to hold it against."""

    folder: Path
    settings: Settings
    records: list[Record]
    """In the order of the images."""
    images: ImageSet
    certifier: AuditedCertifier

    def batch(self, indices: list[int]) -> Batch:
        """Some images."""
        rows = torch.tensor(indices)
        return Batch(rows, self.images.images[rows], self.images.labels[rows])


def audit(
    path: Annotated[
        Path,
        typer.Argument(metavar="RECORDS", help="records.csv of a certify stage, or its folder."),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="The shards; default: as stage.json says."),
    ] = None,
    sample: Annotated[
        int,
        typer.Option(
            "--sample", min=1, metavar="N", help="Rows proved in Python integers and attacked."
        ),
    ] = 50,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", help="Draws those rows; default: unforeseeable."),
    ] = None,
) -> None:
    """Prove the rows of a certify stage again, and try to break them.

    Every row is proved again, some of them in plain Python integers; every image is compared with
    the shards, and what is certified is attacked.
    """
    evidence = gather_evidence(path, data)
    seed = secrets.randbelow(2**31) if seed is None else seed
    order = permutation(len(evidence.records), Stream.AUDIT, seed)
    chosen = sorted(int(index) for index in order[:sample])
    findings = []
    for title, check in (
        (f"{len(evidence.records):,} images against the shards", compare_images(evidence)),
        (f"{len(evidence.records):,} rows proved again", compare_proofs(evidence)),
        (f"{len(chosen)} rows proved in Python integers", prove_by_hand(evidence, chosen)),
        (f"{len(chosen)} images attacked", attack_again(evidence, chosen)),
        ("summary and files", compare_files(evidence)),
    ):
        start = time.perf_counter()
        found = list(check)
        verdict = f"{len(found)} faults" if found else "right"
        print(f"{title}: {verdict} ({time.perf_counter() - start:.1f} s)", flush=True)
        findings += found
    if findings:
        shown = "\n".join(findings[:MOST_SHOWN])
        rest = len(findings) - MOST_SHOWN
        more = f"\nand {rest} more" if rest > 0 else ""
        raise StageError(f"{path}: these records cannot be trusted (seed {seed})\n{shown}{more}")
    print(f"{path}: every row stands (seed {seed})")


def gather_evidence(path: Path, data_dir: Path | None) -> Evidence:
    """Read the records, the network and the shards.

    Raises:
        UserError: no records, or their certificates cannot be audited.
        StageError: a file is damaged, or the rows are not every image once.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / RECORDS_FILE).exists() or path.name not in (RECORDS_FILE, folder.name):
        raise UserError(f"{path}: no {RECORDS_FILE} here; name the one of a certify stage")
    stage = read_stage_record(folder)
    inputs = {name: source.stage for name, source in stage.inputs.items()}
    settings = Settings.model_validate({**stage.settings, "inputs": inputs})
    family = family_of(settings.certifier)
    certifier = family.shipped(folder, settings.certifier, settings.eps, settings.grid())
    shards = data_dir or folder.parent / inputs["data"]
    manifest = read_manifest(shards)
    images = load_split(shards, manifest, settings.split)
    records = read_records(folder / RECORDS_FILE)
    check_every_image_once(records, settings.split, len(images))
    records.sort(key=lambda record: record.key)
    return Evidence(folder, settings, records, images, certifier)


def compare_images(evidence: Evidence) -> Iterator[str]:
    """Rows whose image or label is not that of the shards."""
    pixels = evidence.images.images.numpy()
    labels = evidence.images.labels.tolist()
    for record, image, label in zip(evidence.records, pixels, labels, strict=True):
        if record.image_sha256 != image_digest(image):
            yield f"{record.key}: image_sha256 is not that of the image in the shards"
        if record.label != label:
            yield f"{record.key}: label is {record.label}, the shards say {label}"


def compare_proofs(evidence: Evidence) -> Iterator[str]:
    """Rows whose prediction, margin, radius or verdict does not come out again.

    Whole numbers come out to the last bit; what floats decide may round otherwise on
    another machine, within the certifier's tolerance.
    """
    size, eps = evidence.settings.batch_size, evidence.settings.eps
    for start in range(0, len(evidence.records), size):
        rows = evidence.records[start : start + size]
        batch = evidence.batch(list(range(start, start + len(rows))))
        found = evidence.certifier.certify(batch.images, batch.labels)
        columns = {
            "predicted": found.predicted.tolist(),
            "margin": found.margin.tolist(),
            "exact_radius": found.radius,
            "method": found.method,
            "certified": [eps < radius for radius in found.radius],
        }
        for name, values in columns.items():
            for record, value in zip(rows, values, strict=True):
                recorded = getattr(record, name)
                if not _agree(name, recorded, value, evidence.certifier):
                    yield f"{record.key}: {name} is {recorded}, proved is {value}"


def prove_by_hand(evidence: Evidence, chosen: list[int]) -> Iterator[str]:
    """Rows whose radius Python integers refute."""
    verifier = evidence.certifier.verifier()
    for index in chosen:
        record, image = evidence.records[index], evidence.images.images[index]
        radius = record.exact_radius
        fault = verifier.refutes(image, record.label, radius, record.method)
        if fault:
            yield f"{record.key}: radius {radius} is not proved: {fault}"


def attack_again(evidence: Evidence, chosen: list[int]) -> Iterator[str]:
    """Rows that the attack of the run breaks though they say that it does not, or vice versa."""
    settings = evidence.settings
    attack = Attack(evidence.certifier.attack_space, settings.attack, settings.seed)
    rows = [evidence.records[index] for index in chosen]
    is_right = torch.tensor([row.is_correct for row in rows])
    batch = evidence.batch(chosen)
    verdict = attack.attack(batch, is_right, torch.zeros_like(is_right))
    columns = {"pgd_correct": verdict.after_baseline, "attacked_correct": verdict.worst}
    for name, margins in columns.items():
        for record, stands in zip(rows, (is_right & (margins > 0)).tolist(), strict=True):
            if record.certified and not stands:
                yield f"{record.key}: certified at eps {settings.eps}, but the attack breaks it"
            elif getattr(record, name) != stands:
                yield f"{record.key}: {name} is {getattr(record, name)}, the attack says {stands}"


def compare_files(evidence: Evidence) -> Iterator[str]:
    """What is wrong with the summary, or with any file of the stage."""
    summary = read_summary(evidence.folder)
    grid = [point.eps for point in summary.eps_grid]
    counted = summarise(
        evidence.records,
        summary.split,
        summary.norm,
        summary.eps,
        grid,
        summary.certified_method,
    )
    if counted.model_dump(exclude={"seconds"}) != summary.model_dump(exclude={"seconds"}):
        yield "summary.json is not what the rows add up to"
    fault = damage(evidence.folder, read_stage_record(evidence.folder), verify_hashes=True)
    if fault:
        yield f"since the stage ended, {fault}"


def _agree(name: str, recorded: Any, found: Any, certifier: AuditedCertifier) -> bool:
    if name == "margin":
        return math.isclose(recorded, found, rel_tol=certifier.margin_tolerance)
    if name == "exact_radius":
        return bool(abs(recorded - found) <= certifier.radius_tolerance)
    return bool(recorded == found)
