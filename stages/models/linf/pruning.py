"""Pruning of distance networks by use: how often each edge decides, and what kept edges make.

A neuron without edges is a constant. Running means are estimated anew after pruning, so behind
`Centering` the constant is 0, whatever it was before; an edge that starts there has the constant
length |w| and becomes part of the floor of the row it belongs to. A row that has only such edges
is a constant too, and so on to the last layer. A neuron that no edge starts from is removed with
its row, first the ones of the last hidden layer, then those before.

O outputs and I inputs of a layer.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import kernels
from kernels import SparseRows
from pipeline.errors import UserError
from stages.models.family import HistorySource, WorstCase
from stages.models.images import Normalisation
from stages.models.linf.config import LinfSettings, SparseMLPSettings
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.pruning import EmptyLayer, LayerCut, LayerSize, PrunedNetwork
from stages.models.validation import BatchSource


class EdgePruner:
    """The `Pruner` of networks of dense distance layers alone.

    Args:
        network: in evaluation mode.
        settings: what it was built from.
        history: reads that of its training.

    Raises:
        UserError: it has other layers, or its training never reached p = infinity.
    """

    def __init__(
        self, network: LinfNetwork, settings: LinfSettings, history: HistorySource
    ) -> None:
        _refuse_unfit(settings, history)
        self.network = network
        self._weights: list[Tensor] = [_dense(layer) for layer in network.distances]
        self.sizes = [LayerSize(weight.numel(), len(weight)) for weight in self._weights]

    @torch.no_grad()
    def count_uses(self, normalisation: Normalisation, images: BatchSource) -> list[Tensor]:
        """See `Pruner`.

        An output has one deciding edge an image, the lowest input that reaches the maximum, so the
        counts of a row add up to the number of images.
        """
        counts = [torch.zeros_like(weight, dtype=torch.int64) for weight in self._weights]
        for batch in images():
            x = normalisation.apply(batch.images).flatten(1)
            for number, layer in enumerate(self.network.hidden):
                x = layer.centering(_count_layer(x, self._weights[number], counts[number]))
            _count_layer(x, self._weights[-1], counts[-1])
        if dist.is_available() and dist.is_initialized():
            for count in counts:
                dist.all_reduce(count)
        return counts

    @torch.no_grad()
    def prune(self, image_shape: Sequence[int], keep: Sequence[Tensor]) -> PrunedNetwork:
        """See `Pruner`: constants are folded, and what nothing depends on is removed."""
        keep, floors, constants = _fold_constants(self._weights, keep)
        used = _used_neurons(keep)
        for number, kept in enumerate(keep):
            if not kept[used[number + 1]].any():
                raise EmptyLayer(
                    f"with these edges layer {number} of {len(keep)} depends on no pixel, or "
                    "nothing depends on it: keep more edges"
                )
        rows = [
            SparseRows.from_dense(
                weight[used[number + 1]][:, used[number]],
                keep[number][used[number + 1]][:, used[number]],
                floors[number][used[number + 1]],
            )
            for number, weight in enumerate(self._weights)
        ]
        cuts = tuple(
            LayerCut(
                LayerSize(len(row.values), len(row.floor)),
                int(constant.sum()),
                int((~of_layer & ~constant).sum()),
            )
            for row, constant, of_layer in zip(rows, constants, used[1:], strict=True)
        )
        return self._assemble(image_shape, rows, used[1:], cuts)

    def worst_case(
        self, network: nn.Module, images: Tensor, labels: Tensor, eps_input: float
    ) -> WorstCase:
        """See `Pruner`: at p = infinity."""
        found: WorstCase = network.worst_case(images, labels, math.inf, eps_input)  # type: ignore[operator]
        return found

    def _assemble(
        self,
        image_shape: Sequence[int],
        rows: Sequence[SparseRows],
        used: Sequence[Tensor],
        cuts: tuple[LayerCut, ...],
    ) -> PrunedNetwork:
        settings = SparseMLPSettings(
            kind="sparse_mlp",
            widths=tuple(cut.size.num_outputs for cut in cuts),
            num_edges=tuple(cut.size.num_edges for cut in cuts),
        )
        device = self._weights[0].device
        pruned = build_network(settings, image_shape, settings.widths[-1]).to(device)
        for layer, row in zip(pruned.distances, rows, strict=True):
            layer.set_rows(row)  # type: ignore[attr-defined]  # they are sparse
        for mine, full, of_layer in zip(pruned.hidden, self.network.hidden, used, strict=False):
            mine.centering.running_mean.copy_(full.centering.running_mean[of_layer])
        pruned.head.bias.copy_(self.network.head.bias)  # type: ignore[operator, arg-type]
        return PrunedNetwork(pruned.eval(), settings, cuts)


def _refuse_unfit(settings: LinfSettings, history: HistorySource) -> None:
    head = settings.head_layer(2)
    kinds = [layer.kind for layer in settings.hidden_layers()]
    if head.kind == "distance":
        kinds.append(head.layer.kind)
    if head.kind != "distance" or set(kinds) != {"dense"}:
        raise UserError(
            f"a network of kind {settings.kind} cannot be pruned, only a distance_mlp whose "
            "edges are all there: name the train stage of one"
        )
    last_p = max((line.extra["p"] for line in history()), default=0.0)
    if last_p != math.inf:
        raise UserError(
            f"this network was trained at p up to {last_p:g}, never at infinity: there every edge "
            "has a share in its output, and the one that decides at infinity says little. Train it "
            "with rule.infinite_epoch before the last epoch"
        )


def _dense(layer: Any) -> Tensor:
    weight: Tensor = layer.weights.weight
    return weight


def _count_layer(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Add the uses of one layer by one batch to its counts; returns its distances."""
    distance, argmax = kernels.linf_distance_argmax(x, weight)
    num_outputs, num_inputs = weight.shape
    first_edge = torch.arange(num_outputs, dtype=torch.int32, device=x.device) * num_inputs
    edges = (argmax + first_edge).flatten()  # int32 holds 16384 inputs by 16384 outputs
    counts += edges.bincount(minlength=weight.numel()).view_as(counts)
    return distance


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
