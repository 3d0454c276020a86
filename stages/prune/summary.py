"""What pruning did, as `pruning.json` keeps it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.models.pruning import LayerSize, PrunedNetwork
from stages.models.pruning_file import Accuracy, CurvePoint, PrunedLayer, Pruning
from stages.models.validation import Counts
from stages.prune.config import Settings
from stages.prune.trials import Trial


def summarise(
    settings: Settings,
    full: Sequence[LayerSize],
    before: Counts,
    uses: Sequence[Tensor],
    curve: Sequence[Trial],
    chosen: Trial,
    is_fine_tuned: bool,
) -> Pruning:
    """Put the figures together.

    Args:
        settings: of the stage.
        full: the layers before.
        before: its counts on the validation split.
        uses: int64 (O, I) for each layer, how often each edge decides.
        curve: trials without fine-tuning.
        chosen: the network that is written.
        is_fine_tuned: whether its weights were trained on.
    """
    return Pruning(
        rule=rule_text(settings),
        sparsity=chosen.sparsity,
        eps=settings.eps,
        num_training_images=int(uses[0][0].sum()),
        num_validation_images=before.num_images,
        before=_accuracy(before),
        after=_accuracy(chosen.counts),
        is_fine_tuned=is_fine_tuned,
        layers=_layers(full, uses, chosen.pruned),
        curve=tuple(
            CurvePoint(sparsity=trial.sparsity, accuracy=_accuracy(trial.counts))
            for trial in sorted(curve, key=lambda trial: trial.sparsity)
        ),
    )


def rule_text(settings: Settings) -> str:
    """How the edges are chosen, for the reader of a report."""
    if settings.min_count is not None:
        return f"edges that decide for at least {settings.min_count:,} training images"
    each = "each layer" if settings.scope == "layer" else "the network"
    if settings.sparsity == "auto":
        return (
            f"as many edges of {each} dropped as cost at most {settings.tolerance:.2%} of the "
            "validation images, clean and certified"
        )
    return f"{settings.sparsity:.2%} of the edges of {each} dropped"


def use_histogram(uses: Tensor) -> tuple[int, ...]:
    """Edges that decide for no image, for 1, for 2 to 3, 4 to 7, and so on to the most used."""
    # frexp splits a count from 2^k to 2^(k+1) - 1 off as exponent k + 1, and 0 as 0.
    exponents = torch.frexp(uses.flatten().double()).exponent
    return tuple(exponents.bincount().tolist())


def _accuracy(counts: Counts) -> Accuracy:
    return Accuracy(num_correct=counts.num_correct, num_certified=counts.num_certified)


def _layers(
    full: Sequence[LayerSize], uses: Sequence[Tensor], pruned: PrunedNetwork
) -> tuple[PrunedLayer, ...]:
    return tuple(
        PrunedLayer(
            num_edges_before=use.numel(),
            num_edges=cut.size.num_edges,
            num_outputs_before=before.num_outputs,
            num_outputs=cut.size.num_outputs,
            num_constant=cut.num_constant,
            num_unused=cut.num_unused,
            use_histogram=use_histogram(use),
        )
        for before, use, cut in zip(full, uses, pruned.cuts, strict=True)
    )
