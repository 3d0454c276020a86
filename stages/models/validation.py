"""How good a network is on some images at p = infinity, as it is or as training would leave it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.distributed as dist

from stages.data.batches import Batch
from stages.models.images import Normalisation
from stages.models.linf.float_certifier import prover_for
from stages.models.linf.float_error import is_certified
from stages.models.linf.network import DistanceNetwork
from stages.models.linf.running_means import reestimate_running_means

BatchSource = Callable[[], Iterator[Batch]]
"""Gives this rank's share of some images, in order, each time it is called."""


@dataclass(frozen=True)
class Counts:
    """Exact counts over all ranks."""

    num_images: int
    num_correct: int
    num_certified: int

    @property
    def clean_accuracy(self) -> float:
        """Right on the unchanged image."""
        return self.num_correct / self.num_images

    @property
    def certified_accuracy(self) -> float:
        """Right, and proved right in the whole ball."""
        return self.num_certified / self.num_images


@contextmanager
def at_infinity(
    network: DistanceNetwork, normalisation: Normalisation, images: BatchSource
) -> Iterator[None]:
    """Inside, the network is ready for p = infinity: evaluation mode, running means from `images`.

    Afterwards it goes on training with the running means it had.
    """
    means = [layer.centering.running_mean for layer in network.hidden]
    kept = [mean.clone() for mean in means]
    try:
        make_ready_for_infinity(network, normalisation, images)
        yield
    finally:
        for mean, before in zip(means, kept, strict=True):
            mean.copy_(before)
        network.train()


def make_ready_for_infinity(
    network: DistanceNetwork, normalisation: Normalisation, images: BatchSource
) -> None:
    """Evaluation mode, and running means re-estimated at p = infinity from all of `images`."""
    device = next(network.parameters()).device
    reestimate_running_means(
        network, lambda: (normalisation.apply(batch.images.to(device)) for batch in images())
    )


def evaluate(
    network: DistanceNetwork, normalisation: Normalisation, images: BatchSource, eps: Fraction
) -> Counts:
    """Count right and certified images at p = infinity, over all ranks of torch.distributed.

    Args:
        network: in evaluation mode, running means re-estimated.
        normalisation: what the network expects.
        images: this rank's share.
        eps: radius in pixels; certified by margin (`stages.models.linf.float_certifier`).
    """
    device = next(network.parameters()).device
    prover = prover_for(network, normalisation)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    for batch in images():
        labels = batch.labels.to(device)
        proof = prover.by_margin(normalisation.apply(batch.images.to(device)), labels)
        is_right = proof.predicted == labels
        counts[0] += len(labels)
        counts[1] += is_right.sum()
        counts[2] += (is_right & is_certified(proof.radius, eps)).sum()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return Counts(*counts.tolist())
