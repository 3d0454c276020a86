"""Backward passes at p = infinity: whole gradients of outputs go to single inputs.

Legend as in `kernels.cuda.operators`. A gradient that is not wanted comes back empty.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kernels.cuda.kernel import (
    LONG,
    POINTER,
    Arguments,
    Device,
    Kernel,
    Launch,
    blocks_of,
    fields,
)
from kernels.cuda.problem import zeros_if

# Of csrc/cuda/scatter.cu: cells of a warp.
WINDOW = 2048


class _ScatterArgs(Arguments):
    _fields_ = fields(
        (POINTER, "grad x w index result"),
        (LONG, "rows outputs inputs x_stride out_stride"),
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
        _scatter(device, False, x, weight, groups, output_mask[0], values),
        _scatter(device, True, x, weight, groups, output_mask[1], values),
    )


def _scatter(
    device: Device,
    is_of_weights: bool,
    x: Tensor,
    weight: Tensor,
    groups: int,
    is_wanted: bool,
    values: Mapping[str, Tensor],
) -> Tensor:
    """Return one of the two gradients at p = infinity."""
    like = weight if is_of_weights else x
    result = zeros_if(is_wanted, like)
    if result.numel() == 0 or x.shape[0] == 0 or weight.shape[0] == 0:
        return result
    device.launch(
        Kernel("scatter", f"scatter<{str(is_of_weights).lower()}>"),
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
