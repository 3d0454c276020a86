"""One layer of whole numbers: distances, then a constant for each output.

B batch, I inputs, O outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.linf.layers.layer import Weights


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
class IntegerLayer:
    """y_o = max_i |x_i - weight_oi| - offset_o: distances, then a constant for each output."""

    weights: Weights
    offset: Tensor
    """(O,), of the weights' dtype; the running mean, or minus the bias of the last layer."""

    def __call__(self, x: Tensor) -> Tensor:
        """(B, I) -> (B, O)."""
        return self.weights.distance(x) - self.offset

    def bounds(self, box: Box) -> Box:
        """The smallest box of outputs (B, O) over a box of inputs (B, I), exactly."""
        return Box(*(end - self.offset for end in self.weights.bounds(box)))

    def range(self, box: Box) -> tuple[Box, LayerRange]:
        """What the layer computes over one box (1, I) of int64: outputs (1, O), largest numbers."""
        smallest, largest = self.weights.exact_bounds(box)
        outputs = Box(smallest - self.offset, largest - self.offset)
        ends = int(outputs.lower.min()), int(outputs.upper.max())
        return outputs, LayerRange(*ends, int(largest.max()))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "IntegerLayer":
        """The layer with each number changed; which edges there are stays."""
        return IntegerLayer(self.weights.mapped(change), change(self.offset))

    def shifted(self, shift: Tensor) -> "IntegerLayer":
        """The layer with `shift` (I,) added to the weights of each input."""
        return IntegerLayer(self.weights.shifted(shift), self.offset)

    def to(self, device: torch.device | str) -> "IntegerLayer":
        """The same layer on another device."""
        return IntegerLayer(self.weights.to(device), self.offset.to(device))

    @property
    def largest_weight(self) -> int:
        """The largest size of a weight or an offset."""
        numbers = (*self.weights.numbers, self.offset)
        return max(int(number.abs().max()) for number in numbers if number.numel())
