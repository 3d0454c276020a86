"""The distance layer of which few edges are kept."""

import math

import torch
from torch import Tensor, nn

from kernels import sparse
from kernels.layers.box import Box


class SparseDistance(nn.Module):
    """Every output is the distance of the input to that output's kept weights, or its floor.

    ``y_o = max(floor_o, max_k |x_(c_k) - w_k|)`` over the edges k of output o at p = infinity,
    1-Lipschitz for the sup norm; at a finite p the l_p norm of the same terms. The weights are
    parameters; which edges there are, and the floors, is fixed.

    Args:
        num_inputs: I, at most 32,767.
        num_outputs: O.
        num_edges: E. All belong to output 0 and input 0 until `set_rows` or a state is loaded.
    """

    columns: Tensor
    starts: Tensor
    floor: Tensor

    def __init__(self, num_inputs: int, num_outputs: int, num_edges: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs
        self.num_outputs = num_outputs
        self.weight = nn.Parameter(torch.zeros(num_edges))
        starts = torch.full((num_outputs + 1,), num_edges, dtype=torch.int32)
        starts[0] = 0
        self.register_buffer("columns", torch.zeros(num_edges, dtype=torch.int16))
        self.register_buffer("starts", starts)
        self.register_buffer("floor", torch.zeros(num_outputs))

    @property
    def rows(self) -> sparse.SparseRows:
        """The layer as the operators take it."""
        return sparse.SparseRows(self.weight, self.columns, self.starts, self.floor)

    @torch.no_grad()
    def set_rows(self, rows: sparse.SparseRows) -> None:
        """Take over edges, weights and floors.

        Args:
            rows: as many outputs and edges as this layer has.
        """
        for own, new in zip(self.rows, rows, strict=True):
            own.copy_(new)

    def forward(self, x: Tensor, p: float) -> Tensor:
        """Return the distances.

        Args:
            x: Inputs, (B, num_inputs).
            p: From 2 to 1000, or ``math.inf``.

        Returns:
            Distances, (B, num_outputs).
        """
        if p == math.inf:
            return sparse.sparse_linf_distance(x, self.rows)
        return sparse.sparse_lp_distance(x, self.rows, p)

    def bounds(self, lower: Tensor, upper: Tensor) -> Box:
        """Return the box of the outputs at p = infinity over a box of inputs.

        Args:
            lower: Lower ends, (B, num_inputs).
            upper: Upper ends, (B, num_inputs), at least ``lower``.

        Returns:
            The smallest box that holds the outputs.
        """
        return Box(*sparse.sparse_linf_distance_bounds(lower, upper, self.rows))

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(layer)``."""
        return (
            f"num_inputs={self.num_inputs}, num_outputs={self.num_outputs}, "
            f"num_edges={len(self.weight)}"
        )
