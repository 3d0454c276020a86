"""From the artifacts of a run to the tree of values that is its report; no other source is read."""

from collections.abc import Sequence

from pipeline.execution.context import Context
from pipeline.store.artifacts import StageRecord, read_stage_record
from stages.data.catalogue import CATALOGUE
from stages.data.history import HistoryLine
from stages.data.manifest import Manifest, read_manifest
from stages.report.config import Settings
from stages.report.formats import eps_text, rate_text
from stages.report.model import Comparison, Data, Network, Report, Split, StageTime
from stages.report.networks import collect_network
from stages.report.published import published_results
from stages.report.reproduce import reproduction
from stages.report.sweep import collect_sweep, of_first_member, records_dirs


def collect(context: Context, settings: Settings) -> Report:
    """Read the artifacts and compute every figure of the report from them.

    Raises:
        StageError: an artifact is damaged, or two of them contradict each other.
    """
    sweep, context = collect_sweep(context), of_first_member(context)
    data_dir = context.inputs["data"]
    manifest = read_manifest(data_dir)
    networks = tuple(
        collect_network(folder, data_dir, manifest, settings.gallery_size)
        for folder in records_dirs(context.inputs)
    )
    stages = _stages(context)
    data = _data(manifest)
    return Report(
        title=settings.title
        or f"{data.title}, certified at eps {eps_text(networks[0].result.eps)}",
        pipeline=context.pipeline,
        data=data,
        networks=networks,
        comparisons=_comparisons(manifest.dataset, networks),
        stages=stages,
        times=_times(stages, data, networks),
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


def _comparisons(dataset: str, networks: Sequence[Network]) -> tuple[Comparison, ...]:
    balls = dict.fromkeys((network.result.norm, network.result.eps) for network in networks)
    return tuple(
        Comparison(
            norm,
            eps,
            tuple(one for one in networks if (one.result.norm, one.result.eps) == (norm, eps)),
            published_results(dataset, norm, eps),
        )
        for norm, eps in balls
    )


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


def _times(
    stages: Sequence[StageRecord], data: Data, networks: Sequence[Network]
) -> tuple[StageTime, ...]:
    """How long each stage took; throughput where something is counted."""
    num_sharded = sum(split.num_images for split in data.splits)
    throughput = {}
    for stage in stages:
        if stage.kind == "shard":
            throughput[stage.stage] = rate_text(num_sharded, stage.seconds, "images")
        for network in networks:
            if stage.stage == network.records:
                total = network.result.clean.total
                throughput[stage.stage] = rate_text(total, stage.seconds, "images")
            elif stage.stage == network.name and network.history:
                throughput[stage.stage] = _training_rate(network.history)
    return tuple(
        StageTime(
            stage=stage.stage,
            kind=stage.kind,
            num_ranks=stage.num_ranks,
            start=stage.start,
            seconds=stage.seconds,
            throughput=throughput.get(stage.stage, ""),
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
