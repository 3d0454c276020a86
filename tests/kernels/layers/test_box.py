import math

import pytest
import torch

from kernels.layers import Box


def test_ball_reaches_the_radius_on_both_sides() -> None:
    lower, upper = Box.ball(torch.tensor([[0.0, 1.0]]), 0.5)
    assert torch.equal(lower, torch.tensor([[-0.5, 0.5]]))
    assert torch.equal(upper, torch.tensor([[0.5, 1.5]]))


def test_clamp_keeps_the_valid_part() -> None:
    box = Box.ball(torch.tensor([[0.0, 1.0]]), 0.5).clamp(0.0, torch.tensor([1.0, 1.25]))
    assert torch.equal(box.lower, torch.tensor([[0.0, 0.5]]))
    assert torch.equal(box.upper, torch.tensor([[0.5, 1.25]]))


@pytest.mark.parametrize("radius", [-0.1, math.nan])
def test_a_radius_below_0_is_refused(radius: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Box.ball(torch.zeros(1, 2), radius)
