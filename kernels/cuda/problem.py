"""What the kernels of all operators take: operands, tiles, launches.

Legend as in `kernels.cuda.operators`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.cuda.kernel import INT, LONG, POINTER, Arguments, Device, Launch, blocks_of, fields
from kernels.cuda.tiling import Cut, Tile, cut

LARGE, MIDDLE, SMALL = Tile(8, 8), Tile(8, 4), Tile(4, 2)
LARGE_BOXES, SMALL_BOXES = Tile(4, 8, 2), Tile(4, 2, 2)

THREADS = 128


class Problem(Arguments):
    """The operands; `Problem` in csrc/cuda/tiles.h."""

    _fields_ = fields(
        (POINTER, "x upper w"),
        (LONG, "rows outputs inputs x_stride out_stride stages_a_split"),
        (POINTER, "gate"),
    )


class BoundsArgs(Arguments):
    """`BoundsArgs` in csrc/cuda/linf_distance_bounds.cu."""

    _fields_ = fields(
        (Problem, "problem"),
        (POINTER, "smallest largest"),
        (INT, "num_splits"),
    )


def cut_of(device: Device, tiles: tuple[Tile, ...], x: Tensor, weight: Tensor, groups: int) -> Cut:
    """Return how to cut an operator with these operands."""
    sizes = (x.shape[0], weight.shape[0] // groups, weight.shape[1])
    return cut(tiles, sizes, groups, device.num_processors)


def problem_of(
    x: Tensor,
    weight: Tensor,
    groups: int,
    plan: Cut,
    upper: Tensor | None = None,
    gate: Tensor | None = None,
) -> Problem:
    """Return the operands as kernels take them."""
    return Problem(
        x=x,
        upper=upper,
        w=weight,
        rows=x.shape[0],
        outputs=weight.shape[0] // groups,
        inputs=weight.shape[1],
        x_stride=x.shape[1],
        out_stride=weight.shape[0],
        stages_a_split=plan.stages_a_split,
        gate=gate,
    )


def launch_of(plan: Cut) -> Launch:
    """Return the launch of a kernel with tiles."""
    return Launch(plan.grid, THREADS, plan.tile.shared_bytes)


def launch_a_pair(distance: Tensor) -> Launch:
    """Return the launch of a kernel with one thread for each number of ``distance``."""
    return Launch((blocks_of(distance.numel(), THREADS), 1, 1), THREADS)


def vector_of(*operands: Tensor) -> int:
    """Return how many floats one copy may take: 4 where all rows start at multiples of 16 bytes."""
    is_aligned = all(t.shape[1] % 4 == 0 and t.data_ptr() % 16 == 0 for t in operands)
    # Rows of groups start anywhere inside a row of x.
    return 4 if is_aligned and operands[-1].shape[1] % 4 == 0 else 1


def zeros_if(is_wanted: bool, like: Tensor) -> Tensor:
    """Return zeros like a tensor, or an empty one for a gradient that is not wanted."""
    return torch.zeros_like(like) if is_wanted else like.new_empty(0)
