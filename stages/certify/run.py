"""Certify and attack every image of a split, once each, on any number of ranks."""

import torch

from pipeline.errors import UserError
from pipeline.execution.context import Context
from stages.certify.batch_certifier import BatchCertifier
from stages.certify.batch_files import BatchFiles
from stages.certify.config import Settings
from stages.certify.metrics import IMAGES
from stages.data.batches import Batch
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import Manifest, read_manifest
from stages.data.records import RECORDS_FILE, summarise, write_records, write_summary
from stages.models.certifier import Certifier, CertifyTask
from stages.models.compatibility import check_compatibility
from stages.models.family import family_of
from stages.models.network_file import LoadedNetwork, load_network


def run(context: Context, settings: Settings) -> None:
    """Write `records.csv` and `summary.json`, and the network that was certified.

    Raises:
        UserError: the network does not belong to the data, or nothing can be proved about it.
        StageError: an image is certified and yet broken; or the rows are not every image once.
    """
    manifest = read_manifest(context.inputs["data"])
    device = _device(context)
    loaded = load_network(context.inputs["network"], device)
    check_compatibility(manifest, loaded, settings.split, settings.norm)

    certifier = _certifier(context, settings, manifest, loaded)
    batch_certifier = BatchCertifier(certifier, settings)
    images = load_split(context.inputs["data"], manifest, settings.split, device)
    parts = BatchFiles(
        context.output_dir / "parts", settings.split, len(images), settings.batch_size
    )

    with context.track(f"{settings.split} images", len(images), "images") as progress:
        done = parts.num_images_done()
        progress.start_at(done)

        def report(num_done: int) -> None:
            nonlocal done
            progress.advance(num_done - done)
            done = num_done

        for number in parts.left_for(context.ranks):
            rows = batch_certifier.records(_batch(images, parts.indices(number)))
            parts.write(number, rows)
            for row in rows:
                context.metrics.add(IMAGES, verdict=row.verdict)
            report(parts.num_images_done())
        if not context.ranks.is_first:
            return
        parts.wait_for_all(report)

    records = parts.merge()
    summary = summarise(
        records,
        settings.split,
        settings.norm,
        settings.eps,
        settings.grid(),
        settings.certifier.description,
    )
    write_records(context.output_dir / RECORDS_FILE, records)
    write_summary(context.output_dir, summary)
    parts.remove()
    context.say(
        f"{summary.num_images:,} images at eps {summary.eps}: "
        f"clean {summary.clean_accuracy:.4f}, attacked {summary.attacked_accuracy:.4f} "
        f"(PGD alone {summary.pgd_accuracy:.4f}), certified {summary.certified_accuracy:.4f}"
    )


def _certifier(
    context: Context, settings: Settings, manifest: Manifest, loaded: LoadedNetwork
) -> Certifier:
    """The certifier of the settings; the first rank writes what is certified and reads it again."""
    data_dir, device = context.inputs["data"], _device(context)
    split = manifest.splits.get("validation")
    has_validation = split is not None and split.num_images > 0

    def validation() -> ImageSet | None:
        return load_split(data_dir, manifest, "validation", device) if has_validation else None

    task = CertifyTask(
        loaded, settings.certifier, settings.eps, settings.grid(), device, validation
    )
    family = family_of(loaded.settings)
    if settings.certifier.family != loaded.settings.family:
        raise UserError(
            f"certifier {settings.certifier.kind} is for networks of the family "
            f"{settings.certifier.family}, a {loaded.settings.kind} is one of "
            f"{loaded.settings.family}"
        )
    certifier = family.certifier(task)
    if context.ranks.is_first:
        certifier = certifier.ship(context.output_dir)
        context.say(f"certifying {certifier.note}")
    return certifier


def _batch(images: ImageSet, indices: range) -> Batch:
    rows = slice(indices.start, indices.stop)
    positions = torch.arange(indices.start, indices.stop, device=images.device)
    return Batch(positions, images.images[rows], images.labels[rows])


def _device(context: Context) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", context.ranks.local_rank)
    return torch.device("cpu")
