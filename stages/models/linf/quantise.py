"""From a float32 network to whole numbers, and to the float32 network nearest to those.

I inputs of a layer.
"""

import torch
from torch import Tensor

from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.integer_layer import IntegerLayer
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.network import LinfNetwork

LARGEST_WEIGHT = 2.0**40
"""In units; far beyond what 32 bits hold, and still exact in float64 and int64."""


def quantise(
    network: LinfNetwork,
    normalisation: Normalisation,
    image_shape: tuple[int, int, int],
    fraction_bits: int,
) -> IntegerNetwork:
    """Round a network to units of 1 / (255 * 2^fraction_bits) pixel, in int16 where that fits.

    The normalisation is folded into the first layer: |(v / 255 - mean) / std - w| is, in pixels and
    but for the factor 1 / std, |v / 255 - (mean + std w)|.

    Args:
        network: in evaluation mode, float32 weights, all finite.
        normalisation: what it expects of its images.
        image_shape: (H, W, C).
        fraction_bits: 0 to `MOST_FRACTION_BITS`.

    Raises:
        UserError: a weight, or what an image can make of it, does not fit 32 bits.
    """
    in_units = (255 << fraction_bits) * normalisation.std
    own, head = network.head.integer_part()
    hidden = (
        IntegerLayer(one.distance.weights, one.centering.running_mean) for one in network.hidden
    )
    layers = [one.to("cpu").mapped(lambda x: x.double() * in_units) for one in (*hidden, *own)]
    mean = _mean_of_inputs(normalisation, image_shape) * (255 << fraction_bits)
    layers[0] = layers[0].shifted(mean)
    rounded = tuple(one.mapped(_rounded) for one in layers)
    return IntegerNetwork(fraction_bits, image_shape, normalisation, rounded, head).narrowed()


def dequantise(network: IntegerNetwork) -> LinfNetwork:
    """The float32 network nearest to an integer network: gradients for attacks, nothing to prove.

    Returns:
        In evaluation mode, parameters frozen, on the integer network's device.
    """
    normalisation = network.normalisation
    layers = [one.to("cpu").mapped(lambda x: x.double() * network.unit) for one in network.layers]
    mean = _mean_of_inputs(normalisation, network.image_shape) / normalisation.std
    layers[0] = layers[0].shifted(-mean)
    floats = [one.mapped(Tensor.float) for one in layers]
    hidden, head = network.head.dequantised(list(zip(floats, network.fan_ins, strict=True)))
    distances = [layer.weights.layer(fan_in) for layer, fan_in in hidden]
    twin = LinfNetwork(network.image_shape, distances, head)
    for own, (layer, _) in zip(twin.hidden, hidden, strict=True):
        own.centering.running_mean.copy_(layer.offset)
    return twin.to(network.device).eval().requires_grad_(False)


def _mean_of_inputs(normalisation: Normalisation, image_shape: tuple[int, int, int]) -> Tensor:
    """The mean of every input's channel, float64 (I,)."""
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    return mean.repeat_interleave(image_shape[0] * image_shape[1])


def _rounded(exact: Tensor) -> Tensor:
    largest = exact.abs().max().item() if exact.numel() else 0.0
    if not largest <= LARGEST_WEIGHT:
        raise UserError(
            f"a weight or running mean is {largest:g} units: it does not fit 32 bits, so there is "
            "no exact certificate; train the network again, or certify it with certifier: "
            "{kind: float}"
        )
    return exact.round().to(torch.int64)
