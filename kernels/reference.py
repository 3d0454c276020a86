"""Every operator as a plain PyTorch formula: the definition, and the fallback.

Legend: B batch, G groups, I inputs per group, O outputs (all groups). All functions take
x (B, G*I) and weight (O, I), in float32 or float64 (`linf_distance` and `linf_distance_bounds` also
in int16 or int32), on any device. Work is cut into pieces of at
most ``PIECE_ELEMENTS`` (sample, output, input) triples, so memory stays bounded for every shape.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

PIECE_ELEMENTS = 1 << 22
"""Largest number of (sample, output, input) triples held at a time: 16 MiB in float32."""


def lp_distance(x: Tensor, weight: Tensor, p: float, groups: int) -> Tensor:
    """Distance ``(sum_i |x_i - w_oi|^p)^(1/p) = m (sum_i (|x_i - w_oi| / m)^p)^(1/p)``."""
    distance = x.new_empty(x.shape[0], weight.shape[0])
    for piece in _pieces(x, weight, groups):
        size = piece.differences(x, weight).abs()
        largest = _finite_or_one(size.amax(2))
        power_sum = (size / largest.unsqueeze(2)).pow(p).sum(2)
        distance[piece.rows, piece.outputs] = largest * power_sum.pow(1.0 / p)
    return distance


def lp_distance_backward(
    grad: Tensor, x: Tensor, weight: Tensor, distance: Tensor, p: float, groups: int
) -> tuple[Tensor, Tensor]:
    """Gradients of ``lp_distance``: sums over o or b of ``grad sign(t) (|t| / d)^(p-1)``."""
    grad_x, grad_weight = torch.zeros_like(x), torch.zeros_like(weight)
    for piece in _pieces(x, weight, groups):
        difference = piece.differences(x, weight)
        rows_distance = distance[piece.rows, piece.outputs]
        # A row that equals its weights has distance 0 and, by definition, gradient 0.
        divisor = torch.where(rows_distance == 0, 1.0, rows_distance).unsqueeze(2)
        slope = difference.sign() * (difference.abs() / divisor).pow(p - 1.0)
        flow = grad[piece.rows, piece.outputs].unsqueeze(2) * slope
        grad_x[piece.rows, piece.inputs] += flow.sum(1)
        grad_weight[piece.outputs] -= flow.sum(0)
    return grad_x, grad_weight


def linf_distance_argmax(x: Tensor, weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Distance ``max_i |x_i - w_oi|`` and the lowest input i of the group that reaches it."""
    distance = x.new_empty(x.shape[0], weight.shape[0])
    argmax = torch.empty(distance.shape, dtype=torch.int32, device=x.device)
    for piece in _pieces(x, weight, groups):
        size = piece.differences(x, weight).abs()
        largest = size.amax(2)
        reached = (size == largest.unsqueeze(2)) | size.isnan()
        distance[piece.rows, piece.outputs] = largest
        # argmax of a byte tensor is not promised to be the first one; the smallest index is.
        positions = torch.arange(size.shape[2], device=x.device, dtype=torch.int32)
        first = torch.where(reached, positions, size.shape[2]).amin(2)
        argmax[piece.rows, piece.outputs] = first.to(torch.int32)
    return distance, argmax


def linf_distance(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Distance ``max_i |x_i - w_oi|``."""
    distance = x.new_empty(x.shape[0], weight.shape[0])
    for piece in _pieces(x, weight, groups):
        distance[piece.rows, piece.outputs] = piece.differences(x, weight).abs().amax(2)
    return distance


def linf_distance_backward(
    grad: Tensor, x: Tensor, weight: Tensor, argmax: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Gradients of ``linf_distance``: all of ``grad_o`` goes to the input that decides output o."""
    num_inputs, num_outputs = weight.shape[1], weight.shape[0]
    within = argmax.long()
    first_input = torch.arange(num_outputs, device=x.device) // (num_outputs // groups) * num_inputs
    in_x = within + first_input
    difference = x.gather(1, in_x) - weight.gather(1, within.t()).t()
    flow = grad * difference.sign()
    grad_x = torch.zeros_like(x).scatter_add_(1, in_x, flow)
    grad_weight = torch.zeros_like(weight).scatter_add_(1, within.t(), -flow.t())
    return grad_x, grad_weight


def linf_distance_bounds(
    lower: Tensor, upper: Tensor, weight: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Smallest and largest ``max_i |x_i - w_oi|`` over the box ``lower <= x <= upper``."""
    smallest = lower.new_empty(lower.shape[0], weight.shape[0])
    largest = torch.empty_like(smallest)
    for piece in _pieces(lower, weight, groups):
        above = piece.differences(lower, weight)
        below = piece.differences(upper, weight)
        smallest[piece.rows, piece.outputs] = torch.maximum(above, -below).amax(2).clamp(min=0)
        largest[piece.rows, piece.outputs] = torch.maximum(below, -above).amax(2).clamp(min=0)
    return smallest, largest


@dataclass(frozen=True)
class _Piece:
    """A block of samples and of outputs of one group: small enough to hold their differences."""

    rows: slice
    inputs: slice
    outputs: slice

    def differences(self, x: Tensor, weight: Tensor) -> Tensor:
        """``x_i - w_oi``, shape (rows, outputs, inputs)."""
        return x[self.rows, self.inputs].unsqueeze(1) - weight[self.outputs].unsqueeze(0)


def _pieces(x: Tensor, weight: Tensor, groups: int) -> Iterator[_Piece]:
    num_rows, (num_outputs, num_inputs) = x.shape[0], weight.shape
    group_outputs = num_outputs // groups
    piece_rows = max(1, min(num_rows, 16))
    piece_outputs = max(1, PIECE_ELEMENTS // (piece_rows * num_inputs))
    for group in range(groups):
        inputs = slice(group * num_inputs, (group + 1) * num_inputs)
        end = (group + 1) * group_outputs
        for output in range(group * group_outputs, end, piece_outputs):
            outputs = slice(output, min(output + piece_outputs, end))
            for row in range(0, num_rows, piece_rows):
                yield _Piece(slice(row, min(row + piece_rows, num_rows)), inputs, outputs)


def _finite_or_one(largest: Tensor) -> Tensor:
    """A divisor: 1 instead of 0 or infinity, whose quotients would be NaN."""
    return torch.where((largest == 0) | largest.isinf(), 1.0, largest)
