"""Distance networks in whole numbers, evaluated without any rounding: for exact certificates.

With F fractional bits and s = 2^F a pixel value v in 0..255 enters as s v, so that one unit is
1 / (255 s) of a pixel in [0, 1]. Weights, running means and biases are rounded to units once; from
then on there are only differences, absolute values and maxima of whole numbers. The result is a
network of its own, exactly 1-Lipschitz over the reals, close to the float32 one it was made from.

B batch, C channels, H x W pixels, I inputs and O outputs of a layer, K classes.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

import kernels
from kernels import SparseRows, SparseStack, reference, sparse_reference
from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.images import Normalisation

MOST_FRACTION_BITS = 16
"""A finer unit than 1 / (255 * 2^16) of a pixel changes no figure."""


Rows = Tensor | SparseRows
"""The weights of a layer: (O, I), or the edges that are kept of them."""


@dataclass(frozen=True)
class IntegerLayer:
    """y_o = max_i |x_i - weight_oi| - offset_o: distances, then a constant for each output."""

    rows: Rows
    offset: Tensor
    """(O,), of the weights' dtype; the running mean, or minus the bias of the last layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        if isinstance(self.rows, SparseRows):
            return kernels.sparse_linf_distance(x, self.rows) - self.offset
        return kernels.linf_distance(x, self.rows) - self.offset

    def bounds(self, box: Box) -> Box:
        """The smallest box of outputs (B, O) over a box of inputs (B, I), exactly."""
        if isinstance(self.rows, SparseRows):
            ends = kernels.sparse_linf_distance_bounds(*box, self.rows)
        else:
            ends = kernels.linf_distance_bounds(*box, self.rows)
        return Box(*(end - self.offset for end in ends))

    def range(self, box: Box) -> tuple[Box, "LayerRange"]:
        """What the layer computes over one box (1, I) of int64: outputs (1, O), largest numbers."""
        if isinstance(self.rows, SparseRows):
            smallest, largest = sparse_reference.sparse_linf_distance_bounds(
                *box,
                self.rows.values.long(),
                self.rows.columns,
                self.rows.starts,
                self.rows.floor.long(),
            )
        else:
            smallest, largest = reference.linf_distance_bounds(*box, self.rows.long(), 1)
        outputs = Box(smallest - self.offset, largest - self.offset)
        ends = int(outputs.lower.min()), int(outputs.upper.max())
        return outputs, LayerRange(*ends, int(largest.max()))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "IntegerLayer":
        """The layer with each tensor of whole numbers changed; which edges there are stays."""
        return IntegerLayer(mapped_rows(self.rows, change), change(self.offset))

    def to(self, device: torch.device | str) -> "IntegerLayer":
        """The same layer on another device."""
        move = partial(Tensor.to, device=device)
        if isinstance(self.rows, SparseRows):
            return IntegerLayer(SparseRows(*map(move, self.rows)), move(self.offset))
        return IntegerLayer(move(self.rows), move(self.offset))

    @property
    def largest_weight(self) -> int:
        """The largest size of a weight or an offset."""
        rows = self.rows
        weights = (rows.values, rows.floor) if isinstance(rows, SparseRows) else (rows,)
        numbers: tuple[Tensor, ...] = (*weights, self.offset)
        return max(int(number.abs().max()) for number in numbers if number.numel())


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
        """The layers laid out for one call, if only some edges of each are kept."""
        rows = [layer.rows for layer in self.layers if isinstance(layer.rows, SparseRows)]
        if len(rows) < len(self.layers) or self.dtype not in (torch.int16, torch.int32):
            return None
        offsets = (layer.offset for layer in self.layers)
        return SparseStack.of(self.fan_ins[0], list(zip(rows, offsets, strict=True)))

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

        Numbers below 2^40 cannot overflow here, and `integer_rounding` makes no others.
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
        head = deepcopy(self.head)
        return replace(self, layers=layers, head=head and (head[0].to(device), head[1].to(device)))

    def narrowed(self) -> "IntegerNetwork":
        """The same network in int16 if nothing can overflow there, else in int32.

        Raises:
            UserError: an image could overflow 32 bits too.
        """
        weights = [layer.largest_weight for layer in self.layers]
        reached = [span.largest_number for span in self.ranges()]
        largest = max(self.units_per_pixel, *weights, *reached)
        for dtype in (torch.int16, torch.int32):
            if largest <= torch.iinfo(dtype).max:
                narrow = partial(Tensor.to, dtype=dtype)
                return replace(self, layers=tuple(layer.mapped(narrow) for layer in self.layers))
        raise UserError(
            f"with {self.fraction_bits} fractional bits the network reaches {largest:,}, which 32 "
            "bits do not hold: use fewer bits, or certify it with method: float"
        )


def mapped_rows(rows: Rows, change: Callable[[Tensor], Tensor]) -> Rows:
    """The rows with their weights, and floors, changed."""
    if isinstance(rows, SparseRows):
        return rows._replace(values=change(rows.values), floor=change(rows.floor))
    return change(rows)
