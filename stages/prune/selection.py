"""From use counts to the edges that are kept."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stages.models.pruning import EmptyLayer


def keep_used(counts: Sequence[Tensor], min_count: int) -> list[Tensor]:
    """Keep the edges that decide for at least `min_count` images.

    Args:
        counts: int64 (O, I) for each layer.
        min_count: at least 1.

    Returns:
        bool (O, I) for each layer.

    Raises:
        EmptyLayer: a layer would be left without edges.
    """
    keep = [count >= min_count for count in counts]
    for number, (kept, count) in enumerate(zip(keep, counts, strict=True)):
        if not kept.any():
            raise EmptyLayer(
                f"min_count {min_count:,} leaves layer {number} of {len(counts)} without edges: "
                f"its most used edge decides for {int(count.max()):,} images. Choose fewer"
            )
    return keep


def keep_share(counts: Sequence[Tensor], sparsity: float, scope: str) -> list[Tensor]:
    """Drop a share of the edges, those that decide least; the rest is kept.

    Of edges used equally often the first ones stay, so the number is exact and the choice repeats.

    Args:
        counts: int64 (O, I) for each layer.
        sparsity: share of the edges to drop, in [0, 1).
        scope: `network`, or `layer` to drop the same share of each.

    Returns:
        bool (O, I) for each layer.

    Raises:
        EmptyLayer: a layer would be left without edges.
    """
    if scope == "layer":
        keep = [_most_used(count.flatten(), sparsity).view_as(count) for count in counts]
    else:
        chosen = _most_used(torch.cat([count.flatten() for count in counts]), sparsity)
        parts = torch.split(chosen, [count.numel() for count in counts])
        keep = [part.view_as(count) for part, count in zip(parts, counts, strict=True)]
    for number, kept in enumerate(keep):
        if not kept.any():
            advice = (
                "choose a smaller one"
                if scope == "layer"
                else "choose a smaller one, or scope: layer"
            )
            raise EmptyLayer(
                f"sparsity {sparsity} leaves layer {number} of {len(keep)} without edges "
                f"({kept.numel():,} before): {advice}"
            )
    return keep


def sparsity_of(keep: Sequence[Tensor]) -> float:
    """Share of the edges that are not kept."""
    kept = sum(int(part.sum()) for part in keep)
    return 1 - kept / sum(part.numel() for part in keep)


def _most_used(counts: Tensor, sparsity: float) -> Tensor:
    """Bool (E,): the most used edges, those of lower index first where equal."""
    num_kept = round((1 - sparsity) * len(counts))
    order = counts.argsort(descending=True, stable=True)
    keep = torch.zeros(len(counts), dtype=torch.bool, device=counts.device)
    keep[order[:num_kept]] = True
    return keep
