"""From the trained network to the integer network that is certified: how fine the numbers are."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import torch

from pipeline.errors import UserError
from stages.data.in_memory import ImageSet
from stages.models.linf.certifier import Ball, LinfCertifier
from stages.models.linf.config import FloatSettings
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.integer_network import MOST_FRACTION_BITS, IntegerNetwork
from stages.models.linf.prover import Prover
from stages.models.linf.quantise import quantise
from stages.models.network_file import LoadedNetwork
from stages.models.validation import Counts, count

MOST_CHANGE = Fraction(5, 10_000)
"""Of any accuracy of the validation images: 0.05 points."""
BITS_WITHOUT_VALIDATION = 12
IMAGES_AT_A_TIME = 500
BY_MARGIN = FloatSettings(certificates=("margin",))


def make_integer_network(
    loaded: LoadedNetwork,
    num_bits: int | None,
    eps: Fraction,
    validation: Callable[[], ImageSet | None],
) -> IntegerNetwork:
    """Round the network to whole numbers, as fine as asked for or as the images need.

    Every rank makes the same network.

    Args:
        loaded: the trained network; it stays as it is.
        num_bits: fractional bits; None: chosen on the validation images.
        eps: radius in pixels that must be certified as often as in float32.
        validation: reads the validation images; None: there are none.

    Returns:
        The network on the CPU.

    Raises:
        UserError: it does not fit 32 bits, or cannot be proved about at all; or no precision keeps
            the accuracies.
    """
    FloatProver(loaded.network, loaded.normalisation)  # refuses weights that are no numbers
    if num_bits is not None:
        return _rounded(loaded, num_bits)
    images = validation()
    if images is None:
        return _rounded(loaded, BITS_WITHOUT_VALIDATION)
    return choose_precision(loaded, images, eps)


def choose_precision(loaded: LoadedNetwork, images: ImageSet, eps: Fraction) -> IntegerNetwork:
    """The finest network of 16 bits if it keeps the accuracies, else the coarsest of 32 that does.

    Raises:
        UserError: none does.
    """
    wanted = _count(FloatProver(loaded.network, loaded.normalisation), images, eps)
    most_change = MOST_CHANGE * len(images)
    for network in _candidates(loaded):
        found = _count(ExactProver(network.to(images.device)), images, eps)
        changes = (
            abs(found.num_correct - wanted.num_correct),
            abs(found.num_certified - wanted.num_certified),
        )
        if max(changes) <= most_change:
            return network
    raise UserError(
        f"no integer network with up to {MOST_FRACTION_BITS} fractional bits keeps the accuracy of "
        "the validation images to 0.05 points; set fraction_bits, or certify with certifier: "
        "{kind: float}"
    )


def _count(prover: Prover, images: ImageSet, eps: Fraction) -> Counts:
    certifier = LinfCertifier(prover, BY_MARGIN, Ball(eps))
    starts = range(0, len(images), IMAGES_AT_A_TIME)
    rows = (slice(start, start + IMAGES_AT_A_TIME) for start in starts)
    return count(certifier, ((images.images[some], images.labels[some]) for some in rows), eps)


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
