"""The operators on compressed rows as plain PyTorch formulas: the definition, and the fallback.

Legend: B batch, I inputs, O outputs, E edges. x (B, I), values (E,), columns int16 (E,), starts
int32 (O + 1,), floor (O,). Samples are taken in pieces of at most ``PIECE_ELEMENTS`` differences.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from kernels.reference import PIECE_ELEMENTS


def output_of_edges(starts: Tensor) -> Tensor:
    """int64 (E,): the output that each edge belongs to."""
    outputs = torch.arange(len(starts) - 1, device=starts.device)
    return outputs.repeat_interleave(starts.diff())


def sparse_linf_distance(
    x: Tensor, values: Tensor, columns: Tensor, starts: Tensor, floor: Tensor
) -> Tensor:
    """Distance ``max(floor_o, max_k |x_(c_k) - v_k|)``."""
    outputs = output_of_edges(starts)
    distance = floor.expand(x.shape[0], -1).clone()
    for piece in _pieces(x, values):
        size = _differences(x[piece], values, columns).abs()
        distance[piece].scatter_reduce_(1, outputs.expand_as(size), size, "amax")
    return distance


def sparse_linf_distance_argmax(
    x: Tensor, values: Tensor, columns: Tensor, starts: Tensor, floor: Tensor
) -> tuple[Tensor, Tensor]:
    """Distance, and the lowest edge that reaches it; -1 where the floor does."""
    outputs = output_of_edges(starts)
    distance = sparse_linf_distance(x, values, columns, starts, floor)
    deciding = torch.full_like(distance, len(values), dtype=torch.int32)
    edges = torch.arange(len(values), dtype=torch.int32, device=x.device)
    for piece in _pieces(x, values):
        size = _differences(x[piece], values, columns).abs()
        reached = (size == distance[piece][:, outputs]) | size.isnan()
        candidates = torch.where(reached, edges, len(values)).to(torch.int32)
        deciding[piece].scatter_reduce_(1, outputs.expand_as(size), candidates, "amin")
    return distance, torch.where(distance == floor, -1, deciding).to(torch.int32)


def sparse_linf_distance_backward(
    grad: Tensor, x: Tensor, values: Tensor, columns: Tensor, deciding: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients in x and the values: all of ``grad_o`` goes to the edge that decides output o."""
    grad_x, grad_values = torch.zeros_like(x), torch.zeros_like(values)
    if len(values) == 0:
        return grad_x, grad_values
    edge = deciding.long().clamp(min=0)
    column = columns.long()[edge]
    flow = grad * (x.gather(1, column) - values[edge]).sign()
    flow = torch.where(deciding < 0, 0.0, flow)
    grad_x.scatter_add_(1, column, flow)
    grad_values.scatter_add_(0, edge.flatten(), -flow.flatten())
    return grad_x, grad_values


def sparse_linf_distance_bounds(
    lower: Tensor, upper: Tensor, values: Tensor, columns: Tensor, starts: Tensor, floor: Tensor
) -> tuple[Tensor, Tensor]:
    """Smallest and largest distance over the box ``lower <= x <= upper``."""
    outputs = output_of_edges(starts)
    smallest = floor.expand(lower.shape[0], -1).clone()
    largest = smallest.clone()
    for piece in _pieces(lower, values):
        above = _differences(lower[piece], values, columns)
        below = -_differences(upper[piece], values, columns)
        index = outputs.expand_as(above)
        smallest[piece].scatter_reduce_(1, index, torch.maximum(above, below), "amax")
        farthest = torch.maximum(above.abs(), below.abs())
        largest[piece].scatter_reduce_(1, index, farthest, "amax")
    return smallest, largest


def sparse_linf_stack(
    x: Tensor,
    values: Tensor,
    columns: Tensor,
    starts: Tensor,
    floor: Tensor,
    offset: Tensor,
    widths: Tensor,
    shift: int,
) -> Tensor:
    """Layer after layer ``max(floor_o, max_k |x_(c_k) - v_k|) - offset_o``, slice by slice."""
    x = x.to(values.dtype) << shift if x.dtype == torch.uint8 else x
    ends, slice_rows = starts.tolist(), values.shape[1]
    number = 0
    for width in widths[1:].tolist():
        with_sentinel = torch.cat([x, x.new_zeros(len(x), 1)], 1)
        outputs = []
        for _ in range(-(-width // slice_rows)):
            steps = slice(ends[number], ends[number + 1])
            size = (with_sentinel[:, columns[steps].long()] - values[steps]).abs()
            largest = torch.cat([floor[number].expand(len(x), 1, -1), size], 1).amax(1)
            outputs.append(largest - offset[number])
            number += 1
        x = torch.cat(outputs, 1)[:, :width]
    return x


def sparse_lp_distance(
    x: Tensor,
    values: Tensor,
    columns: Tensor,
    starts: Tensor,
    floor: Tensor,
    largest: Tensor,
    p: float,
) -> Tensor:
    """Distance ``m ((floor_o / m)^p + sum_k (|x_(c_k) - v_k| / m)^p)^(1/p)``, m the largest term.

    Samples run along the last dimension, where an edge reads them in one run. m counts as constant:
    its derivatives cancel.
    `largest` (B, O) has the m, the distances at p = infinity.
    """
    outputs = output_of_edges(starts)
    scale = torch.where((largest == 0) | largest.isinf(), 1.0, largest).T
    size = (x.T[columns.long()] - values[:, None]).abs()
    terms = (size / scale[outputs]).pow(p)
    total = (floor[:, None] / scale).pow(p).index_add(0, outputs, terms)
    # A sum of 0 has no slope; the root's would be infinite there.
    root = torch.where(total == 0, 0.0, torch.where(total == 0, 1.0, total).pow(1.0 / p))
    return (scale * root).T


def _differences(x: Tensor, values: Tensor, columns: Tensor) -> Tensor:
    """(B, E)."""
    return x[:, columns.long()] - values


def _pieces(x: Tensor, values: Tensor) -> Iterator[slice]:
    step = max(1, PIECE_ELEMENTS // max(1, len(values)))
    return (slice(start, start + step) for start in range(0, x.shape[0], step))
