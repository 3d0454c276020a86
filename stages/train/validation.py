"""How good the network would be if training stopped now."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import inf

import torch
import torch.distributed as dist
from torch import Tensor

from stages.data.batches import Batch
from stages.models.margins import certified_by_margin, feature_error, float_slack, margin
from stages.models.networks import DistanceMLP, DistanceNetwork
from stages.models.normalisation import Normalisation
from stages.models.running_means import reestimate_running_means

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


@torch.no_grad()
def evaluate(
    network: DistanceNetwork, normalisation: Normalisation, images: BatchSource, eps: Fraction
) -> Counts:
    """Count right and certified images at p = infinity.

    Args:
        network: in evaluation mode, running means re-estimated.
        normalisation: what the network expects.
        images: this rank's share.
        eps: radius in pixels.
    """
    device = next(network.parameters()).device
    certify = _certifier(network, normalisation, eps)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    for batch in images():
        labels = batch.labels.to(device)
        margins, is_certified = certify(normalisation.apply(batch.images.to(device)), labels)
        is_right = margins > 0
        counts[0] += len(labels)
        counts[1] += is_right.sum()
        counts[2] += (is_right & is_certified).sum()
    if dist.is_initialized():
        dist.all_reduce(counts)
    return Counts(*counts.tolist())


def _certifier(
    network: DistanceNetwork, normalisation: Normalisation, eps: Fraction
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What maps normalised images and labels to margins and to which are certified."""
    eps_input = normalisation.eps_input(eps)
    if isinstance(network, DistanceMLP):
        slack = float_slack(network, normalisation)

        def by_margin(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            margins = margin(network(images, inf), labels)
            return margins, certified_by_margin(margins, eps_input, slack)

        return by_margin

    error, _ = feature_error(network, normalisation)

    def by_feature_box(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits, worst = network.worst_case(images, labels, inf, eps_input + 2 * error)
        others = worst.scatter(1, labels[:, None], -inf)
        return margin(logits, labels), others.amax(1) < 0

    return by_feature_box
