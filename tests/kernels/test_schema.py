"""The operators as torch sees them: opcheck, compile, autocast."""

import pytest
import torch
from torch import Tensor

import kernels

SAMPLES = {
    "lp_distance": (8.5, 2),
    "linf_distance": (2,),
    "linf_distance_argmax": (2,),
}


def operands() -> tuple[Tensor, Tensor]:
    return torch.randn(5, 2 * 7, requires_grad=True), torch.randn(6, 7, requires_grad=True)


@pytest.mark.usefixtures("quiet_opcheck")
@pytest.mark.parametrize("name", SAMPLES)
def test_opcheck_passes(name: str) -> None:
    operator = getattr(torch.ops.supnorm, name).default
    torch.library.opcheck(operator, (*operands(), *SAMPLES[name]))


@pytest.mark.usefixtures("quiet_opcheck")
def test_opcheck_of_bounds_passes() -> None:
    x, weight = operands()
    upper = (x + 1).detach().requires_grad_()
    torch.library.opcheck(torch.ops.supnorm.linf_distance_bounds.default, (x, upper, weight, 2))


@pytest.mark.usefixtures("quiet_opcheck")
@pytest.mark.parametrize("mask", [[True, True], [True, False], [False, True]])
def test_opcheck_of_gradients_passes(mask: list[bool]) -> None:
    x, weight = (t.detach() for t in operands())
    distance, argmax = torch.ops.supnorm.linf_distance_argmax(x, weight, 2)
    grad = torch.randn_like(distance)
    operators = torch.ops.supnorm
    torch.library.opcheck(
        operators.lp_distance_backward.default, (grad, x, weight, distance, 8.5, 2, mask)
    )
    torch.library.opcheck(
        operators.linf_distance_backward.default, (grad, x, weight, argmax, 2, mask)
    )
    torch.library.opcheck(
        operators.linf_distance_bounds_backward.default,
        (grad, grad, x, x + 1, weight, 2, [*mask, True]),
    )


def test_autocast_runs_in_float32_and_returns_float32() -> None:
    x, weight = torch.randn(4, 6), torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        distance = kernels.lp_distance(x.bfloat16(), weight, 8.0)
        bounds = kernels.linf_distance_bounds(x.bfloat16(), x.bfloat16(), weight)
    assert distance.dtype == bounds[0].dtype == torch.float32
    assert torch.equal(distance, kernels.lp_distance(x.bfloat16().float(), weight, 8.0))


def test_compile_traces_without_graph_breaks_for_a_changing_p() -> None:
    def loss(x: Tensor, weight: Tensor, p: float) -> Tensor:
        hidden = kernels.lp_distance(x, weight, p)
        return kernels.linf_distance(hidden, weight[:, :3]).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    for p in (8.0, 9.5, 11.0):
        value = compiled(x, weight, p)
        assert torch.allclose(value, loss(x, weight, p))
        ours = torch.autograd.grad(value, (x, weight))
        plain = torch.autograd.grad(loss(x, weight, p), (x, weight))
        for a, b in zip(ours, plain, strict=True):
            assert torch.allclose(a, b)


def test_float64_is_not_touched_by_autocast() -> None:
    x, weight = torch.randn(4, 6).double(), torch.randn(3, 6).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernels.linf_distance(x, weight).dtype == torch.float64
