"""The distance layer: a linear layer whose dot product is replaced by a distance."""

import math

import torch
from torch import Tensor, nn

from kernels import ops
from kernels.layers.box import Box

IDENTITY_WEIGHT = -10.0
"""So far from the inputs that ``|x_i - w_oi|`` is ``x_i + 10``: the output passes input i on."""


class DistanceLinear(nn.Module):
    """Every output is the distance of the input to that output's weight row.

    ``y_o = (sum_i |x_i - w_oi|^p)^(1/p)``; at p = infinity ``y_o = max_i |x_i - w_oi|``,
    1-Lipschitz for the sup norm. Weights start as N(0, 1); where there are at least as many outputs
    as inputs, output o starts as a projection of input ``o mod num_inputs``, so that depth does not
    wash the input out.

    Source: arXiv:2102.05363 (layer), arXiv:2110.06850 (initialisation).
    """

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        if num_inputs < 1 or num_outputs < 1:
            raise ValueError(
                f"DistanceLinear: {num_inputs} inputs and {num_outputs} outputs; "
                "it needs at least 1 of each."
            )
        self.num_inputs = num_inputs
        self.num_outputs = num_outputs
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights anew from torch's generator."""
        self.weight.normal_()
        if self.num_inputs <= self.num_outputs:
            outputs = torch.arange(self.num_outputs, device=self.weight.device)
            self.weight[outputs, outputs % self.num_inputs] = IDENTITY_WEIGHT

    def forward(self, x: Tensor, p: float) -> Tensor:
        """Return the distances.

        Args:
            x: Inputs, (B, num_inputs).
            p: From 2 to 1000, or ``math.inf``.

        Returns:
            Distances, (B, num_outputs).
        """
        if p == math.inf:
            return ops.linf_distance(x, self.weight)
        return ops.lp_distance(x, self.weight, p)

    def bounds(self, lower: Tensor, upper: Tensor) -> Box:
        """Return the box of the outputs at p = infinity over a box of inputs.

        Args:
            lower: Lower ends, (B, num_inputs).
            upper: Upper ends, (B, num_inputs), at least ``lower``.

        Returns:
            The smallest box that holds the outputs; for rounding `kernels.linf_distance_bounds`.
        """
        return Box(*ops.linf_distance_bounds(lower, upper, self.weight))

    def extra_repr(self) -> str:
        """Return the sizes, for ``print(layer)``."""
        return f"num_inputs={self.num_inputs}, num_outputs={self.num_outputs}"
