"""A distance layer of which some edges are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

import kernels
from kernels import SparseRows, SparseStack, sparse_reference
from kernels.layers import Box, SparseDistance
from stages.models.linf.config import SparseSettings
from stages.models.linf.layers.layer import Row, TensorReader, Weights


class Sparse(SparseDistance):
    """See `DistanceLayer`."""

    @classmethod
    def build(cls, settings: SparseSettings, num_inputs: int) -> Self:
        """See `DistanceLayer`."""
        return cls(num_inputs, settings.num_outputs, settings.num_edges)

    @property
    def weights(self) -> "SparseWeights":
        """See `DistanceLayer`."""
        return SparseWeights(SparseRows(*(part.detach() for part in self.rows)))

    def decayed(self) -> Sequence[nn.Parameter]:
        """Nothing: its weights are no whole rows."""
        return ()

    def identity_entries(self) -> tuple[Tensor, Tensor] | None:
        """None: it is never trained from scratch."""
        return None


@dataclass(frozen=True)
class SparseWeights(Weights):
    """See `Weights`."""

    kind: ClassVar[str] = "sparse"

    rows: SparseRows
    """Compressed rows: `values` and `columns` (E,), `starts` (O + 1,), `floor` (O,)."""

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """O."""
        return len(self.rows.floor)

    @property
    def numbers(self) -> tuple[Tensor, ...]:
        """See `Weights`."""
        return (self.rows.values, self.rows.floor)

    def distance(self, x: Tensor) -> Tensor:
        """See `Weights`."""
        return kernels.sparse_linf_distance(x, self.rows)

    def bounds(self, box: Box) -> Box:
        """See `Weights`."""
        return Box(*kernels.sparse_linf_distance_bounds(*box, self.rows))

    def exact_bounds(self, box: Box) -> Box:
        """See `Weights`."""
        values, columns, starts, floor = self.rows
        return Box(
            *sparse_reference.sparse_linf_distance_bounds(
                *box, values.long(), columns, starts, floor.long()
            )
        )

    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """See `Weights`."""
        rows = self.rows
        return type(self)(rows._replace(values=change(rows.values), floor=change(rows.floor)))

    def shifted(self, shift: Tensor) -> Self:
        """See `Weights`."""
        values = self.rows.values + shift[self.rows.columns.long()]
        return type(self)(self.rows._replace(values=values))

    def to(self, device: torch.device | str) -> Self:
        """See `Weights`."""
        return type(self)(SparseRows(*(part.to(device) for part in self.rows)))

    def tensors(self) -> dict[str, Tensor]:
        """See `Weights`."""
        return self.rows._asdict()

    @classmethod
    def from_tensors(cls, read: TensorReader, num_inputs: int, num_outputs: int) -> Self:
        """See `Weights`."""
        columns = read("columns", None, torch.int16)
        rows = SparseRows(
            read("values", tuple(columns.shape)),
            columns,
            read("starts", (num_outputs + 1,), torch.int32),
            read("floor", (num_outputs,)),
        )
        steps, ends = rows.starts.diff(), rows.starts[[0, -1]].tolist()
        is_in_reach = ((columns >= 0) & (columns < num_inputs)).all()
        if ends != [0, *columns.shape] or (steps < 0).any() or not is_in_reach:
            raise ValueError(f"{read.name} has edges that lead nowhere")
        if (rows.floor < 0).any():
            raise ValueError(f"{read.name} has a floor below 0")
        return cls(rows)

    def reference_rows(self) -> tuple[list[Row], list[int]]:
        """See `Weights`."""
        values, columns, starts, floors = (part.tolist() for part in self.rows)
        edges = list(zip(columns, values, strict=True))
        return [edges[start:end] for start, end in pairwise(starts)], floors

    def layer(self, num_inputs: int) -> Sparse:
        """See `Weights`."""
        layer = Sparse(num_inputs, self.num_outputs, len(self.rows.values))
        layer.set_rows(self.rows)
        return layer

    @classmethod
    def stack(cls, num_inputs: int, layers: Sequence[tuple[Weights, Tensor]]) -> SparseStack | None:
        """See `Weights`; only where all layers are sparse."""
        pairs = [(one.rows, offset) for one, offset in layers if isinstance(one, cls)]
        if len(pairs) < len(layers):
            return None
        return SparseStack.of(num_inputs, pairs)


LAYER, WEIGHTS = Sparse, SparseWeights
