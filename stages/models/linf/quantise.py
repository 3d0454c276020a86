"""From a float32 network to whole numbers, and to the float32 network nearest to those.

I inputs and O outputs of a layer, K classes.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from kernels import SparseRows
from kernels.layers import DistanceLinear, SparseDistance
from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.integer_network import IntegerLayer, IntegerNetwork, Rows, mapped_rows
from stages.models.linf.network import DistanceMLP, DistanceNetwork, Hybrid, SparseMLP

LARGEST_WEIGHT = 2.0**40
"""In units; far beyond what 32 bits hold, and still exact in float64 and int64."""


def quantise(
    network: DistanceNetwork,
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

    def layer(distance: DistanceLinear | SparseDistance, offset: Tensor) -> IntegerLayer:
        rows = distance.rows if isinstance(distance, SparseDistance) else distance.weight
        return IntegerLayer(rows, offset).to("cpu").mapped(lambda x: x.detach().double() * in_units)

    layers = [layer(one.distance, one.centering.running_mean) for one in network.hidden]
    if isinstance(network, DistanceMLP):
        layers.append(layer(network.last, -network.bias))
    mean = _mean_of_inputs(normalisation, image_shape) * (255 << fraction_bits)
    layers[0] = _shifted(layers[0], mean)
    head = _head_of(network) if isinstance(network, Hybrid) else None
    rounded = tuple(one.mapped(_rounded) for one in layers)
    return IntegerNetwork(fraction_bits, image_shape, normalisation, rounded, head).narrowed()


def dequantise(network: IntegerNetwork, num_classes: int) -> DistanceNetwork:
    """The float32 network nearest to an integer network: gradients for attacks, nothing to prove.

    Returns:
        In evaluation mode, parameters frozen, on the integer network's device.
    """
    widths = [len(layer.offset) for layer in network.layers]
    twin: DistanceNetwork
    if network.head is not None:
        hidden = network.head[0].out_features
        twin = Hybrid(network.image_shape, num_classes, widths[0], len(widths), hidden)
    elif any(isinstance(layer.rows, SparseRows) for layer in network.layers):
        edges = [len(cast("SparseRows", layer.rows).values) for layer in network.layers]
        twin = SparseMLP(network.image_shape, widths, edges)
    else:
        twin = DistanceMLP(network.image_shape, num_classes, widths[0], len(widths))
    twin.load_state_dict(_float_state(network))
    return twin.to(network.device).eval().requires_grad_(False)


def _float_state(network: IntegerNetwork) -> dict[str, Tensor]:
    normalisation = network.normalisation
    unit = 1 / (network.units_per_pixel * normalisation.std)
    layers = [layer.to("cpu").mapped(lambda x: x.double() * unit) for layer in network.layers]
    mean = _mean_of_inputs(normalisation, network.image_shape) / normalisation.std
    layers[0] = _shifted(layers[0], -mean)
    state: dict[str, Tensor] = {}
    if network.head is None:
        last = layers.pop()
        state |= {"bias": -last.offset.float(), **_float_rows("last", last.rows)}
    else:
        for name, part in zip(("first", "second"), network.head, strict=True):
            state |= {f"{name}.weight": part.weight.cpu(), f"{name}.bias": part.bias.cpu()}
    for number, layer in enumerate(layers):
        state |= _float_rows(f"hidden.{number}.distance", layer.rows)
        state[f"hidden.{number}.centering.running_mean"] = layer.offset.float()
    return state


def _float_rows(name: str, rows: Rows) -> dict[str, Tensor]:
    rows = mapped_rows(rows, Tensor.float)
    if not isinstance(rows, SparseRows):
        return {f"{name}.weight": rows}
    parts = {"weight": rows.values, "columns": rows.columns, "starts": rows.starts}
    return {f"{name}.{part}": tensor for part, tensor in (parts | {"floor": rows.floor}).items()}


def _mean_of_inputs(normalisation: Normalisation, image_shape: tuple[int, int, int]) -> Tensor:
    """The mean of every input's channel, float64 (I,)."""
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    return mean.repeat_interleave(image_shape[0] * image_shape[1])


def _shifted(layer: IntegerLayer, shift: Tensor) -> IntegerLayer:
    """The layer with `shift` (I,) added to the weights of each input."""
    rows = layer.rows
    if isinstance(rows, SparseRows):
        values = rows.values + shift[rows.columns.long()]
        return IntegerLayer(rows._replace(values=values), layer.offset)
    return IntegerLayer(rows + shift, layer.offset)


def _rounded(exact: Tensor) -> Tensor:
    largest = exact.abs().max().item() if exact.numel() else 0.0
    if not largest <= LARGEST_WEIGHT:
        raise UserError(
            f"a weight or running mean is {largest:g} units: it does not fit 32 bits, so there is "
            "no exact certificate; train the network again, or certify it with method: float"
        )
    return exact.round().to(torch.int64)


def _head_of(network: Hybrid) -> tuple[nn.Linear, nn.Linear]:
    first, second = deepcopy((network.first, network.second))
    return first.cpu().requires_grad_(False), second.cpu().requires_grad_(False)
