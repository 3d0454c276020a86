"""How often each edge decides: exact counts in one pass over the training images."""

import torch
import torch.distributed as dist
from torch import Tensor

import kernels
from stages.models.images import Normalisation
from stages.models.linf.network import DistanceMLP
from stages.models.validation import BatchSource


@torch.no_grad()
def count_uses(
    network: DistanceMLP, normalisation: Normalisation, images: BatchSource
) -> list[Tensor]:
    """For every edge the number of images at which it decides its output at p = infinity.

    An output has one deciding edge an image, the lowest input that reaches the maximum, so the
    counts of a row add up to the number of images.

    Args:
        network: full layers, in evaluation mode.
        normalisation: what the network expects.
        images: this rank's share of the training images; the counts are over all ranks.

    Returns:
        int64 (O, I) for each distance layer, first to last.
    """
    weights = [layer.weight for layer in network.distances]
    counts = [torch.zeros_like(weight, dtype=torch.int64) for weight in weights]
    for batch in images():
        x = normalisation.apply(batch.images).flatten(1)
        for number, layer in enumerate(network.hidden):
            distance = _count_layer(x, weights[number], counts[number])
            x = layer.centering(distance)
        _count_layer(x, weights[-1], counts[-1])
    if dist.is_available() and dist.is_initialized():
        for count in counts:
            dist.all_reduce(count)
    return counts


def _count_layer(x: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Add the uses of one layer by one batch to its counts; returns its distances."""
    distance, argmax = kernels.linf_distance_argmax(x, weight)
    num_outputs, num_inputs = weight.shape
    first_edge = torch.arange(num_outputs, dtype=torch.int32, device=x.device) * num_inputs
    edges = (argmax + first_edge).flatten()  # int32 holds 16384 inputs by 16384 outputs
    counts += edges.bincount(minlength=weight.numel()).view_as(counts)
    return distance
