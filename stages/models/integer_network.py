"""Distance networks in whole numbers, evaluated without any rounding: for exact certificates.

With F fractional bits and s = 2^F a pixel value v in 0..255 enters as s v, so that one unit is
1 / (255 s) of a pixel in [0, 1]. Weights, running means and biases are rounded to units once; from
then on there are only differences, absolute values and maxima of whole numbers. The result is a
network of its own, exactly 1-Lipschitz over the reals, close to the float32 one it was made from.

B batch, C channels, H x W pixels, I inputs and O outputs of a layer, K classes.
"""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import kernels
from kernels import reference
from kernels.nn import Box
from pipeline.errors import UserError
from stages.models.networks import DistanceMLP, DistanceNetwork, Hybrid
from stages.models.normalisation import Normalisation

MOST_FRACTION_BITS = 16
"""A finer unit than 1 / (255 * 2^16) of a pixel changes no figure."""
LARGEST_WEIGHT = 2.0**40
"""In units; far beyond what 32 bits hold, and still exact in float64 and int64."""


@dataclass(frozen=True)
class IntegerLayer:
    """y_o = max_i |x_i - weight_oi| - offset_o: distances, then a constant for each output."""

    weight: Tensor
    """(O, I)"""
    offset: Tensor
    """(O,), of the same dtype; the running mean, or minus the bias of the last layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        return kernels.linf_distance(x, self.weight) - self.offset

    def bounds(self, box: Box) -> Box:
        """The smallest box of outputs (B, O) over a box of inputs (B, I), exactly."""
        smallest, largest = kernels.linf_distance_bounds(*box, self.weight)
        return Box(smallest - self.offset, largest - self.offset)


@dataclass(frozen=True)
class LayerRange:
    """What a layer computes over all images there are; the proof that nothing overflows."""

    smallest_output: int
    largest_output: int
    largest_difference: int
    """Largest |x_i - weight_oi|, which is the largest number on the way to an output."""

    @property
    def largest_number(self) -> int:
        """No number of the layer is larger in size."""
        return max(self.largest_difference, -self.smallest_output, self.largest_output)


@dataclass(frozen=True)
class IntegerNetwork:
    """Layers of whole numbers; for a hybrid also the head that works on the last one's outputs."""

    fraction_bits: int
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    normalisation: Normalisation
    """Of the float32 network that this one was made from: a head sees outputs divided by
    `units_per_pixel` * std."""
    layers: tuple[IntegerLayer, ...]
    head: tuple[nn.Linear, nn.Linear] | None
    """Float32, with tanh between; None where the logits are minus the last layer's outputs."""

    @property
    def units_per_pixel(self) -> int:
        """255 s: so many units are the whole range of a pixel."""
        return 255 << self.fraction_bits

    @property
    def dtype(self) -> torch.dtype:
        """int16 or int32."""
        return self.layers[0].weight.dtype

    def points(self, images: Tensor) -> Tensor:
        """Images as inputs: s v.

        Args:
            images: uint8 (B, C, H, W).

        Returns:
            (B, C, H, W) of the network's dtype.
        """
        return images.to(self.dtype) << self.fraction_bits

    def outputs(self, points: Tensor) -> Tensor:
        """Outputs of the last layer, (B, O), of points (B, C, H, W) with 0 <= x <= 255 s."""
        x = points.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return x

    def output_bounds(self, box: Box) -> Box:
        """Box of the last layer's outputs over a box of points within 0 <= x <= 255 s."""
        box = Box(box.lower.flatten(1), box.upper.flatten(1))
        for layer in self.layers:
            box = layer.bounds(box)
        return box

    def ranges(self) -> tuple[LayerRange, ...]:
        """What every layer computes over all images there are, by interval arithmetic in int64.

        A network of numbers below `LARGEST_WEIGHT` cannot overflow here.
        """
        num_inputs = self.layers[0].weight.shape[1]
        device = self.layers[0].weight.device
        lower = torch.zeros(1, num_inputs, dtype=torch.int64, device=device)
        box = Box(lower, torch.full_like(lower, self.units_per_pixel))
        found = []
        for layer in self.layers:
            smallest, largest = reference.linf_distance_bounds(*box, layer.weight.long(), 1)
            box = Box(smallest - layer.offset, largest - layer.offset)
            ends = int(box.lower.min()), int(box.upper.max())
            found.append(LayerRange(*ends, int(largest.max())))
        return tuple(found)

    def to(self, device: torch.device | str) -> "IntegerNetwork":
        """The same network on another device."""
        layers = (
            IntegerLayer(layer.weight.to(device), layer.offset.to(device)) for layer in self.layers
        )
        head = deepcopy(self.head)
        return self._with(tuple(layers), head and (head[0].to(device), head[1].to(device)))

    def narrowed(self) -> "IntegerNetwork":
        """The same network in int16 if nothing can overflow there, else in int32.

        Raises:
            UserError: an image could overflow 32 bits too.
        """
        numbers = [part for layer in self.layers for part in (layer.weight, layer.offset)]
        sizes = [int(number.abs().max()) for number in numbers]
        largest = max(self.units_per_pixel, *sizes, *(one.largest_number for one in self.ranges()))
        for dtype in (torch.int16, torch.int32):
            if largest <= torch.iinfo(dtype).max:
                return self._with(
                    tuple(
                        IntegerLayer(layer.weight.to(dtype), layer.offset.to(dtype))
                        for layer in self.layers
                    ),
                    self.head,
                )
        raise UserError(
            f"with {self.fraction_bits} fractional bits the network reaches {largest:,}, which 32 "
            "bits do not hold: use fewer bits, or certify it with method: float"
        )

    def _with(
        self, layers: tuple[IntegerLayer, ...], head: tuple[nn.Linear, nn.Linear] | None
    ) -> "IntegerNetwork":
        return IntegerNetwork(
            self.fraction_bits, self.image_shape, self.normalisation, layers, head
        )


def to_integers(
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
    units = 255 << fraction_bits
    mean = torch.tensor(normalisation.mean, dtype=torch.float64)
    shift = mean.repeat_interleave(image_shape[0] * image_shape[1])

    def layer(weight: Tensor, offset: Tensor, shift: Tensor | float = 0.0) -> IntegerLayer:
        scaled = units * (normalisation.std * weight.detach().cpu().double() + shift)
        return IntegerLayer(
            _rounded(scaled), _rounded(units * normalisation.std * offset.detach().cpu().double())
        )

    layers = [
        layer(hidden.distance.weight, hidden.centering.running_mean, 0.0 if number else shift)
        for number, hidden in enumerate(network.hidden)
    ]
    if isinstance(network, DistanceMLP):
        layers.append(layer(network.last.weight, -network.bias, 0.0 if layers else shift))
    head = _head_of(network) if isinstance(network, Hybrid) else None
    made = IntegerNetwork(fraction_bits, image_shape, normalisation, tuple(layers), head)
    return made.narrowed()


def float_twin(network: IntegerNetwork, num_classes: int) -> DistanceNetwork:
    """The float32 network nearest to an integer network: gradients for attacks, nothing to prove.

    Returns:
        In evaluation mode, parameters frozen, on the integer network's device.
    """
    first = network.layers[0].weight
    width, num_layers = len(first), len(network.layers)
    twin: DistanceNetwork
    if network.head is None:
        twin = DistanceMLP(network.image_shape, num_classes, width, num_layers)
    else:
        hidden = network.head[0].out_features
        twin = Hybrid(network.image_shape, num_classes, width, num_layers, hidden)
    twin.load_state_dict(_float_state(network))
    return twin.to(first.device).eval().requires_grad_(False)


def _float_state(network: IntegerNetwork) -> dict[str, Tensor]:
    std = network.normalisation.std
    unit = 1 / (network.units_per_pixel * std)
    mean = torch.tensor(network.normalisation.mean, dtype=torch.float64)
    shift = mean.repeat_interleave(network.image_shape[0] * network.image_shape[1]) / std
    weights = [layer.weight.cpu() * unit for layer in network.layers]
    offsets = [layer.offset.cpu() * unit for layer in network.layers]
    weights[0] = weights[0] - shift
    state: dict[str, Tensor] = {}
    if network.head is None:
        state |= {"last.weight": weights.pop(), "bias": -offsets.pop()}
    else:
        for name, part in zip(("first", "second"), network.head, strict=True):
            state |= {f"{name}.weight": part.weight.cpu(), f"{name}.bias": part.bias.cpu()}
    for number, (weight, offset) in enumerate(zip(weights, offsets, strict=True)):
        state[f"hidden.{number}.distance.weight"] = weight
        state[f"hidden.{number}.centering.running_mean"] = offset
    return {name: tensor.float() for name, tensor in state.items()}


def _rounded(exact: Tensor) -> Tensor:
    largest = exact.abs().max().item()
    if not largest <= LARGEST_WEIGHT:
        raise UserError(
            f"a weight or running mean is {largest:g} units: it does not fit 32 bits, so there is "
            "no exact certificate; train the network again, or certify it with method: float"
        )
    return exact.round().to(torch.int64)


def _head_of(network: Hybrid) -> tuple[nn.Linear, nn.Linear]:
    first, second = deepcopy((network.first, network.second))
    return first.cpu().requires_grad_(False), second.cpu().requires_grad_(False)
