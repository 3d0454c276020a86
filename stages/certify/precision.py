"""From the trained network to the integer network that is certified: how fine the numbers are."""

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.errors import UserError
from stages.certify.config import Settings
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import Manifest
from stages.models.linf.exact_certifier import exact_prover
from stages.models.linf.float_certifier import prover_for
from stages.models.linf.float_error import is_certified
from stages.models.linf.integer_network import MOST_FRACTION_BITS, IntegerNetwork
from stages.models.linf.quantise import quantise
from stages.models.network_file import LoadedNetwork

MOST_CHANGE = Fraction(5, 10_000)
"""Of any accuracy of the validation images: 0.05 points."""
BITS_WITHOUT_VALIDATION = 12
IMAGES_AT_A_TIME = 500


class Counts(NamedTuple):
    """Of the validation images."""

    num_correct: int
    num_certified: int
    """By the margin, at the run's eps."""


def make_integer_network(
    data_dir: Path, manifest: Manifest, loaded: LoadedNetwork, settings: Settings
) -> IntegerNetwork:
    """Round the network to whole numbers, as fine as the settings say or the images need.

    Every rank makes the same network.

    Args:
        data_dir: the shards, for their validation images.
        manifest: theirs.
        loaded: the trained network; it stays as it is.
        settings: of the stage.

    Returns:
        The network on the CPU.

    Raises:
        UserError: it does not fit 32 bits, or cannot be proved about at all; or no fineness keeps
            the accuracies.
    """
    prover_for(loaded.network, loaded.normalisation)  # refuses weights that are no numbers
    if settings.fraction_bits is not None:
        return _rounded(loaded, settings.fraction_bits)
    split = manifest.splits.get("validation")
    if split is None or split.num_images == 0:
        return _rounded(loaded, BITS_WITHOUT_VALIDATION)
    device = next(loaded.network.parameters()).device
    images = load_split(data_dir, manifest, "validation", device)
    return choose_precision(loaded, images, settings.eps)


def choose_precision(loaded: LoadedNetwork, images: ImageSet, eps: Fraction) -> IntegerNetwork:
    """The finest network of 16 bits if it keeps the accuracies, else the coarsest of 32 that does.

    Raises:
        UserError: none does.
    """
    wanted = count_float(loaded, images, eps)
    most_change = MOST_CHANGE * len(images)
    for network in _candidates(loaded):
        found = count_exact(network.to(images.device), images, eps)
        changes = [abs(now - before) for now, before in zip(found, wanted, strict=True)]
        if max(changes) <= most_change:
            return network
    raise UserError(
        f"no integer network with up to {MOST_FRACTION_BITS} fractional bits keeps the accuracy of "
        "the validation images to 0.05 points; set fraction_bits, or certify with method: float"
    )


def count_float(loaded: LoadedNetwork, images: ImageSet, eps: Fraction) -> Counts:
    """Right and certified images of the float32 network."""
    prover = prover_for(loaded.network, loaded.normalisation)
    counts = Counts(0, 0)
    for some, labels in _batches(images):
        proof = prover.by_margin(loaded.normalisation.apply(some), labels)
        certified = int(is_certified(proof.radius, eps).sum())
        correct = int((proof.predicted == labels).sum())
        counts = Counts(counts.num_correct + correct, counts.num_certified + certified)
    return counts


def count_exact(network: IntegerNetwork, images: ImageSet, eps: Fraction) -> Counts:
    """Right and certified images of an integer network."""
    prover = exact_prover(network)
    limit = math.floor(eps * prover.half_units_per_pixel)
    counts = Counts(0, 0)
    for some, labels in _batches(images):
        proof = prover.by_margin(some, labels)
        certified, correct = int((proof.radius > limit).sum()), int((proof.margin > 0).sum())
        counts = Counts(counts.num_correct + correct, counts.num_certified + certified)
    return counts


def _candidates(loaded: LoadedNetwork) -> Iterator[IntegerNetwork]:
    """The finest network that fits 16 bits, if one does; then ever finer ones of 32."""
    finest = None
    for bits in range(MOST_FRACTION_BITS + 1):
        network = _rounded(loaded, bits)
        if network.dtype == torch.int16:
            finest = network
            continue
        if finest is not None:
            yield finest
            finest = None
        yield network


def _rounded(loaded: LoadedNetwork, bits: int) -> IntegerNetwork:
    return quantise(loaded.network, loaded.normalisation, loaded.image_shape, bits)


def _batches(images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), IMAGES_AT_A_TIME):
        rows = slice(start, start + IMAGES_AT_A_TIME)
        yield images.images[rows], images.labels[rows]
