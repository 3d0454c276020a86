"""The network that kept edges make: constants folded, what nobody uses removed.

A neuron without edges is a constant. Running means are estimated anew after pruning, so behind
`Centering` the constant is 0, whatever it was before; an edge that starts there has the constant
length |w| and becomes part of the floor of the row it belongs to. A row that has only such edges
is a constant too, and so on to the last layer. A neuron that no edge starts from is removed with
its row, first the ones of the last hidden layer, then those before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import SparseRows
from kernels.layers import SparseDistance
from stages.models.config import SparseMLPSettings
from stages.models.linf.network import DistanceMLP, SparseMLP
from stages.prune.selection import EmptyLayer


@dataclass(frozen=True)
class LayerCut:
    """What pruning did to one layer."""

    num_constant: int
    """Neurons whose output became a constant."""
    num_unused: int
    """Neurons that were removed because no edge starts from them."""


@dataclass(frozen=True)
class PrunedNetwork:
    """A network of few edges and how it came about."""

    network: SparseMLP
    """In evaluation mode; its running means are those of the full network."""
    settings: SparseMLPSettings
    cuts: tuple[LayerCut, ...]
    """One a layer."""


@torch.no_grad()
def prune(
    network: DistanceMLP, image_shape: Sequence[int], keep: Sequence[Tensor]
) -> PrunedNetwork:
    """Keep some edges of a full network.

    Args:
        network: full layers; it is left as it is.
        image_shape: (H, W, C).
        keep: bool (O, I) for each layer.

    Raises:
        EmptyLayer: a layer has no edge that is worth anything: all its inputs are constants.
    """
    weights = [layer.weight for layer in network.distances]
    keep, floors, constants = _fold_constants(weights, keep)
    used = _used_neurons(keep)
    for number, kept in enumerate(keep):
        if not kept[used[number + 1]].any():
            raise EmptyLayer(
                f"with these edges layer {number} of {len(keep)} depends on no pixel, or nothing "
                "depends on it: keep more edges"
            )
    rows = [
        SparseRows.from_dense(
            weight[used[number + 1]][:, used[number]],
            keep[number][used[number + 1]][:, used[number]],
            floors[number][used[number + 1]],
        )
        for number, weight in enumerate(weights)
    ]
    cuts = tuple(
        LayerCut(int(constant.sum()), int((~of_layer & ~constant).sum()))
        for constant, of_layer in zip(constants, used[1:], strict=True)
    )
    return _assemble(network, image_shape, rows, used[1:], cuts)


def _fold_constants(
    weights: Sequence[Tensor], keep: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Edges that start from a constant become floors.

    Returns:
        For each layer the edges left, bool (O, I); the floors (O,); which neurons are constants.
    """
    is_constant = torch.zeros(weights[0].shape[1], dtype=torch.bool, device=weights[0].device)
    left, floors, constants = [], [], []
    for weight, kept in zip(weights, keep, strict=True):
        folded = kept & is_constant
        floors.append(torch.where(folded, weight.abs(), 0.0).amax(1))
        left.append(kept & ~is_constant)
        is_constant = ~left[-1].any(1)
        constants.append(is_constant)
    return left, floors, constants


def _used_neurons(keep: Sequence[Tensor]) -> list[Tensor]:
    """For the pixels, which all stay, and for each layer: whether an edge starts from a neuron."""
    used = [torch.ones(len(keep[-1]), dtype=torch.bool, device=keep[-1].device)]
    for kept in reversed(keep[1:]):
        used.insert(0, kept[used[0]].any(0))
    return [torch.ones_like(keep[0][0]), *used]


def _assemble(
    network: DistanceMLP,
    image_shape: Sequence[int],
    rows: Sequence[SparseRows],
    used: Sequence[Tensor],
    cuts: tuple[LayerCut, ...],
) -> PrunedNetwork:
    settings = SparseMLPSettings(
        kind="sparse_mlp",
        widths=tuple(len(row.floor) for row in rows),
        num_edges=tuple(len(row.values) for row in rows),
    )
    pruned = SparseMLP(image_shape, settings.widths, settings.num_edges).to(network.bias.device)
    for layer, row in zip(pruned.distances, rows, strict=True):
        assert isinstance(layer, SparseDistance)
        layer.set_rows(row)
    for mine, full, of_layer in zip(pruned.hidden, network.hidden, used, strict=False):
        mine.centering.running_mean.copy_(full.centering.running_mean[of_layer])
    pruned.bias.copy_(network.bias)
    return PrunedNetwork(pruned.eval(), settings, cuts)
