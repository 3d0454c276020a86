"""How an operator's work is cut into blocks, so that no part of the GPU waits for the rest."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from kernels.cuda.kernel import blocks_of

DEPTH = 16
"""Inputs of a stage; ``Tile::kDepth`` in csrc/cuda/tiles.h."""
_STAGES = 3
# What starting and ending a block costs, in stages.
_OVERHEAD_STAGES = 6
_FEWEST_STAGES = 4


@dataclass(frozen=True)
class Tile:
    """A block's tile, by the samples and outputs that each of its 128 threads has of it."""

    thread_rows: int
    thread_cols: int
    operands: int = 1
    """2 for boxes."""

    @property
    def rows(self) -> int:
        """Samples of a tile."""
        return 16 * self.thread_rows

    @property
    def cols(self) -> int:
        """Outputs of a tile."""
        return 8 * self.thread_cols

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return 4 * _STAGES * (self.operands * self.rows + self.cols) * (DEPTH + 4)

    def expression(self, vector: int) -> str:
        """Return its C++ type; ``vector`` is 4 where rows start at multiples of 16 bytes, or 1."""
        return f"Tile<{self.thread_rows}, {self.thread_cols}, {vector}, {self.operands}>"

    def cost(self) -> float:
        """Time of an element, relative to a tile without loads."""
        rows, cols = self.operands * self.thread_rows, self.thread_cols
        return 1 + 0.25 * (rows + cols) / (self.thread_rows * self.thread_cols)


@dataclass(frozen=True)
class Cut:
    """An operator's work, cut."""

    tile: Tile
    grid: tuple[int, int, int]
    """Tiles, splits of the inputs, groups."""
    stages_a_split: int
    busy: float
    """Share of the GPU's time in which it has work, up to 1."""

    @property
    def splits(self) -> int:
        """How many blocks share an output."""
        return self.grid[1]


def cut(
    tiles: Sequence[Tile], sizes: tuple[int, int, int], groups: int, num_processors: int
) -> Cut:
    """Return the fastest way to cut a forward pass.

    Args:
        tiles: What the kernel is compiled for.
        sizes: Samples, outputs of a group, inputs of a group.
        groups: Number of groups.
        num_processors: Streaming multiprocessors of the GPU.
    """
    stages = blocks_of(sizes[2], DEPTH)
    cuts = [
        _cut(tile, sizes, groups, split_stages, num_processors)
        for tile, split_stages in itertools.product(tiles, split_sizes(stages))
    ]
    return min(cuts, key=lambda choice: choice[0])[1]


def split_sizes(stages: int) -> list[int]:
    """Return how many of ``stages`` a split may have."""
    most = max(1, stages // _FEWEST_STAGES)
    return sorted({blocks_of(stages, splits) for splits in range(1, min(most, 64) + 1)})


def _cut(
    tile: Tile, sizes: tuple[int, int, int], groups: int, split_stages: int, num_processors: int
) -> tuple[float, Cut]:
    rows, outputs, inputs = sizes
    stages = blocks_of(inputs, DEPTH)
    blocks = blocks_of(rows, tile.rows) * blocks_of(outputs, tile.cols)
    grid = (blocks, blocks_of(stages, split_stages), groups)
    rounds = blocks_of(grid[0] * grid[1] * grid[2], num_processors)
    block_time = (split_stages + _OVERHEAD_STAGES) * tile.rows * tile.cols * tile.cost()
    work = rows * outputs * groups * stages * tile.cost()
    time = rounds * block_time
    return time, Cut(tile, grid, split_stages, min(1.0, work / (time * num_processors)))
