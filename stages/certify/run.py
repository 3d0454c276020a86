"""Certify and attack every image of a split, once each, on any number of ranks."""

import torch

from pipeline.context import Context
from pipeline.metrics import CERTIFY_IMAGES
from stages.certify.config import Settings
from stages.certify.examiner import Examiner
from stages.certify.parts import Parts
from stages.data.batches import Batch
from stages.data.manifest import read_manifest
from stages.data.records import RECORDS_FILE, summarise, write_records, write_summary
from stages.data.resident import ImageSet, load_split
from stages.models.fit import check_fit
from stages.models.network_file import load_network


def run(context: Context, settings: Settings) -> None:
    """Write `records.csv` and `summary.json`.

    Raises:
        UserError: the network does not belong to the data, or nothing can be proved about it.
        StageError: an image is certified and yet broken; or the rows are not every image once.
    """
    manifest = read_manifest(context.inputs["data"])
    device = _device(context)
    loaded = load_network(context.inputs["network"], device)
    check_fit(manifest, loaded, settings.split)

    examiner = Examiner(loaded, settings)
    images = load_split(context.inputs["data"], manifest, settings.split, device)
    parts = Parts(context.output_dir / "parts", settings.split, len(images), settings.batch_size)

    with context.track(f"{settings.split} images", len(images), "images") as progress:
        done = parts.num_images_done()
        progress.start_at(done)

        def report(num_done: int) -> None:
            nonlocal done
            progress.advance(num_done - done)
            done = num_done

        for number in parts.left_for(context.ranks):
            rows = examiner.records(_batch(images, parts.indices(number)))
            parts.write(number, rows)
            for row in rows:
                context.metrics.add(CERTIFY_IMAGES, verdict=row.verdict)
            report(parts.num_images_done())
        if not context.ranks.is_first:
            return
        parts.wait_for_all(report)

    records = parts.merge()
    summary = summarise(
        records, settings.split, settings.eps, settings.grid(), "+".join(settings.methods)
    )
    write_records(context.output_dir / RECORDS_FILE, records)
    write_summary(context.output_dir, summary)
    parts.remove()
    context.say(
        f"{summary.num_images:,} images at eps {summary.eps}: "
        f"clean {summary.clean_accuracy:.4f}, attacked {summary.attacked_accuracy:.4f}, "
        f"certified {summary.certified_accuracy:.4f}"
    )


def _batch(images: ImageSet, indices: range) -> Batch:
    rows = slice(indices.start, indices.stop)
    positions = torch.arange(indices.start, indices.stop, device=images.device)
    return Batch(positions, images.images[rows], images.labels[rows])


def _device(context: Context) -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", context.ranks.local_rank)
    return torch.device("cpu")
