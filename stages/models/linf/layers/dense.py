"""A distance layer in which every output has an edge from every input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

import kernels
from kernels import reference
from kernels.layers import Box, DistanceLinear
from stages.models.linf.config import DenseSettings
from stages.models.linf.layers.layer import Row, TensorReader, Weights


class Dense(DistanceLinear):
    """See `DistanceLayer`."""

    @classmethod
    def build(cls, settings: DenseSettings, num_inputs: int) -> Self:
        """See `DistanceLayer`."""
        return cls(num_inputs, settings.num_outputs)

    @property
    def weights(self) -> "DenseWeights":
        """See `DistanceLayer`."""
        return DenseWeights(self.weight.detach())

    def decayed(self) -> Sequence[nn.Parameter]:
        """See `DistanceLayer`."""
        return (self.weight,)

    def identity_entries(self) -> tuple[Tensor, Tensor] | None:
        """See `DistanceLayer`."""
        if self.num_inputs > self.num_outputs:
            return None
        rows = torch.arange(self.num_outputs)
        return rows, rows % self.num_inputs


@dataclass(frozen=True)
class DenseWeights(Weights):
    """See `Weights`."""

    kind: ClassVar[str] = "dense"

    weight: Tensor
    """(O, I)."""

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """O."""
        return len(self.weight)

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """See `Weights`."""
        return (self.weight,)

    def distance(self, x: Tensor) -> Tensor:
        """See `Weights`."""
        return kernels.linf_distance(x, self.weight)

    def bounds(self, box: Box) -> Box:
        """See `Weights`."""
        return Box(*kernels.linf_distance_bounds(*box, self.weight))

    def exact_bounds(self, box: Box) -> Box:
        """See `Weights`."""
        return Box(*reference.linf_distance_bounds(*box, self.weight.long(), 1))

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """See `Weights`."""
        return type(self)(change(self.weight))

    def shifted(self, shift: Tensor) -> Self:
        """See `Weights`."""
        return type(self)(self.weight + shift)

    def to(self, device: torch.device | str) -> Self:
        """See `Weights`."""
        return type(self)(self.weight.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """See `Weights`."""
        return {"weight": self.weight}

    @classmethod
    def from_tensors(cls, read: TensorReader, num_inputs: int, num_outputs: int) -> Self:
        """See `Weights`."""
        return cls(read("weight", (num_outputs, num_inputs)))

    def reference_rows(self) -> tuple[list[Row], list[int]]:
        """See `Weights`."""
        return [list(enumerate(row)) for row in self.weight.tolist()], [0] * self.num_outputs

    def layer(self, num_inputs: int) -> Dense:
        """See `Weights`."""
        layer = Dense(num_inputs, self.num_outputs)
        layer.weight.data.copy_(self.weight)
        return layer


LAYER, WEIGHTS = Dense, DenseWeights
