"""The operators as torch sees them: opcheck, compile, autocast."""

import math

import pytest
import torch
from torch import Tensor

import kernels
from kernels.layers import Centering, DistanceLinear

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
    x, weight = (t.detach() for t in operands())
    torch.library.opcheck(torch.ops.supnorm.linf_distance_bounds.default, (x, x + 1, weight, 2))


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


def test_compile_traces_a_stack_of_layers_without_graph_breaks() -> None:
    layers = torch.nn.ModuleList([DistanceLinear(6, 8), Centering(8), DistanceLinear(8, 5)])

    def loss(x: Tensor, p: float) -> Tensor:
        return layers[2](layers[1](layers[0](x, p)), p).square().sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 6, requires_grad=True)
    for p in (8.0, 20.5, math.inf):
        plain, traced = loss(x, p), compiled(x, p)
        assert torch.allclose(traced, plain)
        operands = (x, *layers.parameters())
        for a, b in zip(
            torch.autograd.grad(traced, operands),
            torch.autograd.grad(plain, operands),
            strict=True,
        ):
            assert torch.allclose(a, b)


def test_compile_traces_bounds_without_graph_breaks() -> None:
    def loss(x: Tensor, weight: Tensor) -> Tensor:
        smallest, largest = kernels.linf_distance_bounds(x - 0.1, x + 0.1, weight)
        return (largest - smallest).sum()

    x, weight = (t.detach()[:, :7].clone() for t in operands())
    traced = torch.compile(loss, fullgraph=True, backend="aot_eager")(x, weight)
    assert torch.allclose(traced, loss(x, weight))


def test_float64_is_not_touched_by_autocast() -> None:
    x, weight = torch.randn(4, 6).double(), torch.randn(3, 6).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernels.linf_distance(x, weight).dtype == torch.float64
