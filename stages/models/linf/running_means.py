"""Running means for p = infinity: what training at a finite p collected is wrong there."""

import math
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from stages.models.linf.network import LinfNetwork


@torch.no_grad()
def reestimate_running_means(network: LinfNetwork, images: Callable[[], Iterable[Tensor]]) -> None:
    """Set every running mean to the exact mean of its layer's output at p = infinity.

    Layer after layer: a layer's mean is taken with the layers before it already corrected. Sums
    are float64 in the order given, so the result repeats bit for bit. Each layer runs all layers
    before it again, which costs (depth + 1) / 2 forward passes and no memory.

    Args:
        network: left in evaluation mode.
        images: called once a hidden layer; gives batches of normalised images (B, C, H, W), the
            same ones each time. Where torch.distributed is initialised every rank gives its own
            share, possibly empty, and all of them together make the mean.

    Raises:
        ValueError: there was no image at all.
    """
    network.eval()
    for depth, layer in enumerate(network.hidden):
        running_mean = layer.centering.running_mean
        # The last entry counts the images.
        sums = torch.zeros(
            running_mean.numel() + 1, dtype=torch.float64, device=running_mean.device
        )
        for batch in images():
            x = batch.flatten(1)
            for corrected in network.hidden[:depth]:
                x = corrected(x, math.inf)
            sums[:-1] += layer.distance(x, math.inf).sum(0, dtype=torch.float64)
            sums[-1] += len(batch)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(sums)
        if sums[-1] == 0:
            raise ValueError("running means need at least one image")
        running_mean.copy_(sums[:-1] / sums[-1])
