import pytest

from kernels.cuda.candidates import BLOCK_ROWS
from kernels.cuda.gradients import BLOCK_INPUTS, STAGE_OUTPUTS, cut_outputs
from kernels.cuda.kernel import blocks_of
from kernels.cuda.problem import LARGE, LARGE_BOXES, MIDDLE, SMALL, SMALL_BOXES
from kernels.cuda.tiling import cut

# B, O, I: hidden layers, the first layer and the last of the networks that configs/ trains.
SHAPES = ((512, 5120, 5120), (512, 5120, 3072), (512, 5120, 784), (512, 10, 5120), (512, 200, 5120))
TILES = ((LARGE, MIDDLE, SMALL), (LARGE, SMALL), (MIDDLE, SMALL), (LARGE_BOXES, SMALL_BOXES))
PROCESSORS = (108, 132, 148)
"""Of an A100, an H100 or H200, a B200."""


@pytest.mark.parametrize("num_processors", PROCESSORS)
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_forward_pass_of_our_networks_leaves_no_third_of_a_gpu_idle(
    shape: tuple[int, int, int], tiles: tuple, num_processors: int
) -> None:
    plan = cut(tiles, shape, 1, num_processors)
    blocks = plan.grid[0] * plan.grid[1]
    share = blocks / (blocks_of(blocks, num_processors) * num_processors)
    assert share >= 2 / 3
    # Padding and the ends of blocks too, where the layer is worth it.
    assert plan.busy >= 2 / 3 or shape[1] < 1000


@pytest.mark.parametrize("num_processors", PROCESSORS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_backward_pass_of_our_networks_leaves_no_third_of_a_gpu_idle(
    shape: tuple[int, int, int], num_processors: int
) -> None:
    rows, outputs, inputs = shape
    blocks = blocks_of(rows, BLOCK_ROWS) * blocks_of(inputs, BLOCK_INPUTS)
    stages = blocks_of(outputs, STAGE_OUTPUTS)
    blocks *= blocks_of(stages, cut_outputs(blocks, stages, num_processors))
    assert blocks / (blocks_of(blocks, num_processors) * num_processors) >= 2 / 3


def test_every_split_has_inputs() -> None:
    for inputs in range(1, 3000, 37):
        plan = cut((SMALL,), (10, 10, inputs), 1, 132)
        stages = blocks_of(inputs, 16)
        assert (plan.splits - 1) * plan.stages_a_split < stages <= plan.splits * plan.stages_a_split
