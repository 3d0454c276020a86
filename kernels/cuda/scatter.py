"""Backward passes at p = infinity: whole gradients of outputs go to single inputs.

Legend as in `kernels.cuda.operators`. A gradient that is not wanted comes back empty.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kernels.cuda.kernel import (
    INT,
    LONG,
    POINTER,
    Arguments,
    Device,
    Kernel,
    Launch,
    blocks_of,
    fields,
)
from kernels.cuda.problem import (
    BOXES_OF_GRADIENT,
    BoundsArgs,
    Problem,
    cut_of,
    launch_a_pair,
    launch_of,
    problem_of,
    vector_of,
    zeros_if,
)
from kernels.cuda.tiling import DEPTH

# Of csrc/cuda/scatter.cu: cells of a warp.
WINDOW = 2048
LOWER, UPPER, BOTH = 1, 2, 3


class _DecideArgs(Arguments):
    _fields_ = fields(
        (Problem, "problem"), (POINTER, "smallest_key largest_key smallest largest"), (INT, "depth")
    )


class _ScatterArgs(Arguments):
    _fields_ = fields(
        (POINTER, "grad x w index grad_largest index_largest result"),
        (LONG, "rows outputs inputs x_stride out_stride"),
        (INT, "ends"),
    )


def linf_distance_backward(
    device: Device,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    argmax: Tensor,
    groups: int,
    output_mask: list[bool],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x, (B, G*I), and of the weights, (O, I)."""
    grad, x, weight, argmax = (t.contiguous() for t in (grad, x, weight, argmax))
    values = {"grad": grad, "x": x, "w": weight, "index": argmax}
    return (
        _scatter(device, "false, false", x, weight, groups, output_mask[0], values),
        _scatter(device, "false, true", x, weight, groups, output_mask[1], values),
    )


def linf_distance_bounds_backward(
    device: Device,
    grad_smallest: Tensor,
    grad_largest: Tensor,
    lower: Tensor,
    upper: Tensor,
    weight: Tensor,
    groups: int,
    output_mask: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of both ends, (B, G*I), and of the weights, (O, I)."""
    grad_smallest, grad_largest = grad_smallest.contiguous(), grad_largest.contiguous()
    lower, upper, weight = lower.contiguous(), upper.contiguous(), weight.contiguous()
    values = {"grad": grad_smallest, "grad_largest": grad_largest}
    if grad_smallest.numel() > 0:
        index, index_largest = _decisions(device, lower, upper, weight, groups)
        values |= {"index": index, "index_largest": index_largest}
    low, high, both = (values | {"ends": ends} for ends in (LOWER, UPPER, BOTH))
    return (
        _scatter(device, "true, false", lower, weight, groups, output_mask[0], low),
        _scatter(device, "true, false", upper, weight, groups, output_mask[1], high),
        _scatter(device, "true, true", lower, weight, groups, output_mask[2], both),
    )


def _decisions(
    device: Device, lower: Tensor, upper: Tensor, weight: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Which end of which input each bound comes from."""
    shape = (lower.shape[0], weight.shape[0])
    keys = torch.zeros((2, *shape), dtype=torch.int64, device=lower.device)
    decisions = torch.empty((2, *shape), dtype=torch.int32, device=lower.device)
    plan = cut_of(device, (BOXES_OF_GRADIENT,), lower, weight, groups)
    problem = problem_of(lower, weight, groups, plan, upper)
    tile = plan.tile.expression(vector_of(lower, upper, weight))
    source = "linf_distance_bounds"
    device.launch(
        Kernel(source, f"linf_distance_bounds_stage<{tile}>"),
        launch_of(plan),
        BoundsArgs(
            problem=problem,
            smallest_key=keys[0],
            largest_key=keys[1],
            num_splits=plan.splits,
        ),
    )
    device.launch(
        Kernel(source, "linf_distance_bounds_decide"),
        launch_a_pair(decisions[0]),
        _DecideArgs(
            problem=problem,
            smallest_key=keys[0],
            largest_key=keys[1],
            smallest=decisions[0],
            largest=decisions[1],
            depth=DEPTH,
        ),
    )
    return decisions[0], decisions[1]


def _scatter(
    device: Device,
    kind: str,
    x: Tensor,
    weight: Tensor,
    groups: int,
    is_wanted: bool,
    values: Mapping[str, Tensor | int],
) -> Tensor:
    """One gradient at p = infinity; ``kind``: whether of boxes, whether of weights."""
    like = weight if kind.endswith("true") else x
    result = zeros_if(is_wanted, like)
    if result.numel() == 0 or x.shape[0] == 0 or weight.shape[0] == 0:
        return result
    device.launch(
        Kernel("scatter", f"scatter<{kind}>"),
        Launch((like.shape[0], blocks_of(like.shape[1], WINDOW), 1), 32, 4 * WINDOW),
        _ScatterArgs(
            result=result,
            rows=x.shape[0],
            outputs=weight.shape[0] // groups,
            inputs=weight.shape[1],
            x_stride=x.shape[1],
            out_stride=weight.shape[0],
            **values,
        ),
    )
    return result
