import math

import pytest
import torch

from kernels.cuda.adam import control_of, decayed_adam_
from tests.kernels.cuda.shim import HostShim

BETAS, EPS, RATE, DECAY = (0.9, 0.99), 1e-10, 0.02, 0.3


def decayed(weight: torch.Tensor, p: float) -> torch.Tensor:
    """`w - rate decay (|w| / ||w||_p)^(p-2) w`, by rows."""
    size = weight.abs()
    if math.isinf(p):
        factor = torch.zeros_like(weight).scatter_(1, size.argmax(1, keepdim=True), 1.0)
    else:
        norm = torch.linalg.vector_norm(weight, p, dim=1, keepdim=True)
        factor = (size / norm) ** (p - 2)
    return weight - RATE * DECAY * factor * weight


@pytest.mark.parametrize("p", [2.0, 8.0, 37.5, 300.0, math.inf])
def test_steps_are_those_of_torchs_adam_after_the_decay(shim: HostShim, p: float) -> None:
    weight = torch.randn(5, 300)
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    exact = weight.double().requires_grad_()
    optimiser = torch.optim.Adam([exact], lr=RATE, betas=BETAS, eps=EPS)
    for step in (1, 2, 3):
        grad = torch.randn(5, 300)
        control = control_of(step, RATE, DECAY, p, BETAS, EPS)
        decayed_adam_(shim, weight, grad, mean, square, control)
        with torch.no_grad():
            exact.copy_(decayed(exact, p))
        exact.grad = grad.double()
        optimiser.step()
        assert torch.allclose(weight.double(), exact.detach(), atol=2e-6)


def test_a_row_of_zeros_is_moved_by_adam_alone(shim: HostShim) -> None:
    weight = torch.zeros(1, 9)
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    control = control_of(1, RATE, DECAY, 37.5, BETAS, EPS)
    decayed_adam_(shim, weight, torch.ones(1, 9), mean, square, control)
    assert torch.allclose(weight, torch.full((1, 9), -RATE))


def test_tensors_that_do_not_fit_are_refused(shim: HostShim) -> None:
    weight, control = torch.zeros(2, 3), torch.zeros(8)
    with pytest.raises(ValueError, match="must be as the weight"):
        decayed_adam_(shim, weight, torch.zeros(3, 2), weight, weight, control)
