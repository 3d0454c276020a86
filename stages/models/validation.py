"""How good a network is on some images, as it is or as training would leave it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stages.data.batches import Batch
from stages.models.certifier import Certifies
from stages.models.family import Family
from stages.models.images import Normalisation

BatchSource = Callable[[], Iterator[Batch]]
"""Gives this rank's share of some images, in order, each time it is called."""


@dataclass(frozen=True)
class Counts:
    """Exact counts of images."""

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
def as_certified(
    family: Family, network: Any, normalisation: Normalisation, images: BatchSource
) -> Iterator[None]:
    """Inside, the network is finished as for certification; afterwards it goes on training.

    A family finishes a network by its buffers, which are put back.
    """
    buffers: list[Tensor] = list(network.buffers())
    kept = [buffer.clone() for buffer in buffers]
    try:
        finalise(family, network, normalisation, images)
        yield
    finally:
        for buffer, before in zip(buffers, kept, strict=True):
            buffer.copy_(before)
        network.train()


def finalise(
    family: Family, network: Any, normalisation: Normalisation, images: BatchSource
) -> None:
    """Finish a network as for certification, by what `images` say; in evaluation mode after."""
    device = next(network.parameters()).device
    family.finalise(
        network, lambda: (normalisation.apply(batch.images.to(device)) for batch in images())
    )


def evaluate(
    family: Family,
    network: Any,
    normalisation: Normalisation,
    images: BatchSource,
    eps: Fraction,
) -> Counts:
    """Count right and certified images over all ranks of torch.distributed.

    Args:
        family: of the network.
        network: finished as for certification.
        normalisation: what the network expects.
        images: this rank's share.
        eps: radius in pixels, certified as quickly as the family can.
    """
    device = next(network.parameters()).device
    certifier = family.quick_certifier(network, normalisation)
    batches = ((one.images.to(device), one.labels.to(device)) for one in images())
    own = count(certifier, batches, eps)
    if not (dist.is_available() and dist.is_initialized()):
        return own
    counts = torch.tensor([own.num_images, own.num_correct, own.num_certified], device=device)
    dist.all_reduce(counts)
    return Counts(*counts.tolist())


def count(certifier: Certifies, batches: Iterable[tuple[Tensor, Tensor]], eps: Fraction) -> Counts:
    """Count right and certified images of batches (images, labels)."""
    num_images = num_correct = num_certified = 0
    for images, labels in batches:
        found = certifier.certify(images, labels)
        num_images += len(labels)
        num_correct += int((found.margin > 0).sum())
        num_certified += sum(eps < radius for radius in found.radius)
    return Counts(num_images, num_correct, num_certified)
