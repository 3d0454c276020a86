"""Prune a trained network: data, counts, choice of edges, fine-tuning, save."""

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from pipeline.execution.context import Context
from stages.data.batches import Batch, BatchSettings, ResidentBatches, in_order
from stages.data.distributed import join_ranks, leave_ranks, lost_ranks_reported
from stages.data.history import read_history
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import read_manifest
from stages.models.compatibility import check_compatibility
from stages.models.family import family_of
from stages.models.network_file import LoadedNetwork, load_network, save_network
from stages.models.pruning import EmptyLayer, PrunedNetwork
from stages.models.pruning_file import Pruning, write_pruning
from stages.models.validation import Counts
from stages.prune.config import FineTuneSettings, Settings
from stages.prune.fine_tune import fine_tune
from stages.prune.metrics import EDGES
from stages.prune.search import Limits, largest_sparsity, shares_to_try
from stages.prune.selection import keep_share, keep_used, sparsity_of
from stages.prune.summary import summarise
from stages.prune.trials import Trial, Trials


class Outcome(NamedTuple):
    """What the stage writes."""

    pruned: PrunedNetwork
    pruning: Pruning


def run(context: Context, settings: Settings) -> None:
    """Leave the pruned network and `pruning.json` in the output folder.

    Raises:
        UserError: the network cannot be pruned, does not belong to the data, or the settings leave
            a layer without edges.
        StageError: the data or the network's files are damaged; a rank is gone.
    """
    manifest = read_manifest(context.inputs["data"])
    loaded = load_network(context.inputs["network"])
    family = family_of(loaded.settings)
    history = partial(read_history, context.inputs["network"])
    family.pruner(loaded.network, loaded.settings, history)
    for split in ("train", "validation"):
        check_compatibility(manifest, loaded, split, settings.norm)

    with lost_ranks_reported(context.ranks):
        device = join_ranks(context.ranks)
        train, validation = (
            load_split(context.inputs["data"], manifest, split, device)
            for split in ("train", "validation")
        )
        bench = Trials(
            family,
            family.pruner(loaded.network.to(device), loaded.settings, history),
            loaded.image_shape,
            loaded.normalisation,
            training=partial(in_order, train, settings.batch_size, context.ranks),
            validation=partial(in_order, validation, settings.batch_size, context.ranks),
            eps=settings.eps,
        )
        outcome = _prune(context, settings, bench, train)
        leave_ranks()
    if context.ranks.is_first:
        _save(context, loaded, outcome)


def _prune(context: Context, settings: Settings, bench: Trials, train: ImageSet) -> Outcome:
    """Everything that all ranks share."""
    uses = _count(context, bench, len(train))
    asked_for = _asked_for(settings, uses)
    before = bench.judge_full()
    curve = _curve(context, settings, bench, uses)
    if asked_for is not None:
        chosen = bench.attempt(asked_for)
    else:
        chosen = _largest(settings, bench, uses, before, curve)
    is_fine_tuned = False
    if settings.fine_tune is not None:
        chosen, is_fine_tuned = _fine_tuned(context, settings.fine_tune, bench, train, chosen)
    trials = [trial for _, trial in curve]
    return Outcome(
        chosen.pruned,
        summarise(settings, bench.pruner.sizes, before, uses, trials, chosen, is_fine_tuned),
    )


def _save(context: Context, loaded: LoadedNetwork, outcome: Outcome) -> None:
    save_network(
        context.output_dir,
        outcome.pruned.network,
        outcome.pruned.settings,
        dataset=loaded.dataset,
        image_shape=loaded.image_shape,
        classes=loaded.classes,
        normalisation=loaded.normalisation,
    )
    pruning = outcome.pruning
    write_pruning(context.output_dir, pruning)
    before, after = pruning.before, pruning.after
    context.metrics.set(EDGES, pruning.num_edges_before, which="before")
    context.metrics.set(EDGES, pruning.num_edges, which="kept")
    context.say(
        f"{pruning.num_edges:,} of {pruning.num_edges_before:,} edges kept "
        f"({pruning.sparsity:.2%} gone); of {pruning.num_validation_images:,} validation images "
        f"{before.num_correct:,} -> {after.num_correct:,} right, "
        f"{before.num_certified:,} -> {after.num_certified:,} certified"
    )


def _count(context: Context, bench: Trials, num_images: int) -> list[Tensor]:
    with context.track("counting uses", num_images, "images") as progress:

        def images() -> Iterator[Batch]:
            for batch in bench.training():
                yield batch
                progress.advance(len(batch) * context.ranks.world_size)

        return bench.pruner.count_uses(bench.normalisation, images)


def _asked_for(settings: Settings, uses: Sequence[Tensor]) -> list[Tensor] | None:
    """The edges of a sparsity or count that the settings name; None where they leave the choice."""
    if settings.min_count is not None:
        return keep_used(uses, settings.min_count)
    if settings.sparsity != "auto":
        return keep_share(uses, settings.sparsity, settings.scope)
    return None


def _curve(
    context: Context, settings: Settings, bench: Trials, uses: Sequence[Tensor]
) -> list[tuple[float, Trial]]:
    """Share dropped and trial of every point of the accuracy-sparsity curve, upwards.

    It ends where a layer would be left without edges.
    """
    unused = sparsity_of([use > 0 for use in uses])
    points = []
    with context.track("sparsities", settings.curve_points, "networks") as progress:
        for share in shares_to_try(unused, settings.curve_points):
            try:
                trial = bench.attempt(keep_share(uses, share, settings.scope))
            except EmptyLayer:
                break
            points.append((share, trial))
            progress.advance(1)
    return points


def _largest(
    settings: Settings,
    bench: Trials,
    uses: Sequence[Tensor],
    before: Counts,
    curve: list[tuple[float, Trial]],
) -> Trial:
    """The largest sparsity that costs no more than the tolerance."""
    return largest_sparsity(
        lambda share: bench.attempt(keep_share(uses, share, settings.scope)),
        curve,
        Limits.within(settings.tolerance, before),
        settings.refinements,
    )


def _fine_tuned(
    context: Context,
    settings: FineTuneSettings,
    bench: Trials,
    train: ImageSet,
    chosen: Trial,
) -> tuple[Trial, bool]:
    """The network trained on, if that made neither accuracy worse; and whether it was."""
    pruned = copy.deepcopy(chosen.pruned)
    mixed_whole = BatchSettings(settings.batch_size, settings.seed, window=len(train))
    batches = ResidentBatches(train, [len(train)], mixed_whole, context.ranks)
    num_steps = settings.epochs * batches.epoch_batches.steps
    with context.track("fine-tuning", num_steps, "steps") as progress:
        fine_tune(bench.pruner, pruned.network, bench.normalisation, batches, settings, progress)
    tuned = bench.judge(pruned)
    if Limits.within(0.0, chosen.counts).hold(tuned.counts):
        return tuned, True
    context.say(
        f"fine-tuning left {tuned.counts.num_correct:,} validation images right and "
        f"{tuned.counts.num_certified:,} certified, fewer than before: its weights are dropped"
    )
    return chosen, False
