"""Distance networks in whole numbers, evaluated without any rounding: for exact certificates.

With F fractional bits and s = 2^F a pixel value v in 0..255 enters as s v, so that one unit is
1 / (255 s) of a pixel in [0, 1]. Weights, running means and biases are rounded to units once; from
then on there are only differences, absolute values and maxima of whole numbers. The result is a
network of its own, exactly 1-Lipschitz over the reals, close to the float32 one it was made from.

B batch, C channels, H x W pixels, I inputs and O outputs of a layer.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor

import kernels
from kernels import SparseStack
from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.heads.head import IntegerHead
from stages.models.linf.integer_layer import IntegerLayer, LayerRange

MOST_FRACTION_BITS = 16
"""A finer unit than 1 / (255 * 2^16) of a pixel changes no figure."""


@dataclass(frozen=True)
class IntegerNetwork:
    """Layers of whole numbers, and the head on the last one's outputs."""

    fraction_bits: int
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    normalisation: Normalisation
    """Of the float32 network that this one was made from: in its units outputs are divided by
    `units_per_pixel` * std."""
    layers: tuple[IntegerLayer, ...]
    head: IntegerHead

    @property
    def units_per_pixel(self) -> int:
        """255 s: so many units are the whole range of a pixel."""
        return 255 << self.fraction_bits

    @property
    def unit(self) -> float:
        """One unit in the units of the float32 network."""
        return 1 / (self.units_per_pixel * self.normalisation.std)

    @property
    def dtype(self) -> torch.dtype:
        """int16 or int32."""
        return self.layers[0].offset.dtype

    @property
    def fan_ins(self) -> tuple[int, ...]:
        """Inputs of each layer."""
        outputs = (len(layer.offset) for layer in self.layers[:-1])
        return (math.prod(self.image_shape), *outputs)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.layers[0].offset.device

    def points(self, images: Tensor) -> Tensor:
        """Images as inputs: s v.

        Args:
            images: uint8 (B, C, H, W).

        Returns:
            (B, C, H, W) of the network's dtype.
        """
        return images.to(self.dtype) << self.fraction_bits

    def outputs(self, points: Tensor) -> Tensor:
        """Outputs of the last layer, (B, O), of points (B, C, H, W).

        Raises:
            ValueError: a point is no valid image: nothing is proved to fit for it.
        """
        self._refuse_invalid(points, points)
        x = points.flatten(1)
        if self._stack is not None:
            return kernels.sparse_linf_stack(x, self._stack)
        for layer in self.layers:
            x = layer(x)
        return x

    def outputs_of(self, images: Tensor) -> Tensor:
        """Outputs of the last layer, (B, O), of images, uint8 (B, C, H, W)."""
        if self._stack is not None:
            return kernels.sparse_linf_stack(images.flatten(1), self._stack, self.fraction_bits)
        return self.outputs(self.points(images))

    @cached_property
    def _stack(self) -> SparseStack | None:
        """The layers laid out for one call, if their kind has such a call."""
        if self.dtype not in (torch.int16, torch.int32):
            return None
        pairs = [(layer.weights, layer.offset) for layer in self.layers]
        return self.layers[0].weights.stack(self.fan_ins[0], pairs)

    def output_bounds(self, box: Box) -> Box:
        """Box of the last layer's outputs over a box of points (B, C, H, W).

        Raises:
            ValueError: the box holds points that are no valid images, or a lower end is above its
                upper end.
        """
        if (box.lower > box.upper).any():
            raise ValueError("a box has a lower end above its upper end")
        self._refuse_invalid(*box)
        box = Box(box.lower.flatten(1), box.upper.flatten(1))
        for layer in self.layers:
            box = layer.bounds(box)
        return box

    def _refuse_invalid(self, lower: Tensor, upper: Tensor) -> None:
        if lower.numel() and (lower.min() < 0 or upper.max() > self.units_per_pixel):
            raise ValueError(f"points must lie between 0 and {self.units_per_pixel:,} units")

    def ranges(self) -> tuple[LayerRange, ...]:
        """What every layer computes over all images there are, by interval arithmetic in int64.

        Numbers below 2^40 cannot overflow here, and `quantise` makes no others.
        """
        lower = torch.zeros(1, self.fan_ins[0], dtype=torch.int64, device=self.device)
        box = Box(lower, torch.full_like(lower, self.units_per_pixel))
        found = []
        for layer in self.layers:
            box, span = layer.range(box)
            found.append(span)
        return tuple(found)

    def to(self, device: torch.device | str) -> "IntegerNetwork":
        """The same network on another device."""
        layers = tuple(layer.to(device) for layer in self.layers)
        return replace(self, layers=layers, head=self.head.to(device))

    def narrowed(self) -> "IntegerNetwork":
        """The same network in int16 if nothing can overflow there, else in int32.

        Raises:
            UserError: an image could overflow 32 bits too.
        """
        largest = self.largest_number
        for dtype in (torch.int16, torch.int32):
            if largest <= torch.iinfo(dtype).max:
                narrow = partial(Tensor.to, dtype=dtype)
                return replace(self, layers=tuple(layer.mapped(narrow) for layer in self.layers))
        raise UserError(
            f"with {self.fraction_bits} fractional bits the network reaches {largest:,}, which 32 "
            "bits do not hold: use fewer bits, or certify it with certifier: {kind: float}"
        )

    @property
    def largest_number(self) -> int:
        """No number on the way of any image, and no weight, is larger in size."""
        weights = [layer.largest_weight for layer in self.layers]
        reached = [span.largest_number for span in self.ranges()]
        return max(self.units_per_pixel, *weights, *reached)
