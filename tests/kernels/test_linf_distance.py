import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import reference

# The second kind of data has few deciding inputs, so the kernels that look for them are used.
DENSE, FEW_DECIDE = "dense", "few inputs decide"
SHAPES = ((1, 1, 1), (3, 5, 2), (70, 33, 45), (64, 128, 96), (9, 1000, 10), (130, 170, 131))


def operands(kind: str, batch: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
    x, weight = torch.randn(batch, inputs), torch.randn(outputs, inputs)
    if kind == FEW_DECIDE:
        weight[torch.arange(outputs), torch.arange(outputs) % inputs] = -10.0
    return x, weight


def linf_and_gradients(
    x: Tensor, weight: Tensor, grad: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    distance = kernels.linf_distance(x, weight, groups)
    distance.backward(grad)
    assert x.grad is not None and weight.grad is not None
    return distance.detach(), x.grad, weight.grad


@pytest.mark.parametrize("kind", [DENSE, FEW_DECIDE])
@pytest.mark.parametrize("shape", SHAPES)
def test_distance_and_argmax_are_exactly_those_of_the_formula(
    every_kernel: str, kind: str, shape: tuple[int, int, int]
) -> None:
    x, weight = operands(kind, *shape)
    distance, argmax = reference.linf_distance_argmax(x, weight, 1)
    assert torch.equal(kernels.linf_distance(x, weight), distance)
    assert torch.equal(kernels.linf_distance_argmax(x, weight)[1], argmax)


@pytest.mark.parametrize("kind", [DENSE, FEW_DECIDE])
def test_gradient_goes_to_the_deciding_input(every_kernel: str, kind: str) -> None:
    x, weight = operands(kind, 70, 133, 145)
    grad = torch.randn(70, 145)
    distance, grad_x, grad_weight = linf_and_gradients(x, weight, grad)
    exact, argmax = reference.linf_distance_argmax(x, weight, 1)
    expected_x, expected_weight = reference.linf_distance_backward(grad, x, weight, argmax, 1)
    assert torch.equal(distance, exact)
    assert torch.allclose(grad_x, expected_x, atol=1e-5)
    assert torch.allclose(grad_weight, expected_weight, atol=1e-5)


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 80), st.integers(1, 150), st.integers(1, 60)),
    levels=st.sampled_from((2, 7, 1000)),
    exponent=st.integers(-29, 29),
    offset=st.sampled_from((0.0, -10.0)),
    seed=st.integers(0, 2**31),
)
def test_drawn_shapes_values_and_ties_are_exact(
    sizes: tuple[int, int, int], levels: int, exponent: int, offset: float, seed: int
) -> None:
    batch, inputs, outputs = sizes
    generator = torch.Generator().manual_seed(seed)
    # Few levels: most maxima are ties, and the lowest index has to win.
    x = torch.randint(levels, (batch, inputs), generator=generator) * 10.0**exponent
    weight = torch.randint(levels, (outputs, inputs), generator=generator) * 10.0**exponent
    weight[:, -1] += offset * levels * 10.0**exponent
    distance, argmax = reference.linf_distance_argmax(x, weight, 1)
    assert torch.equal(kernels.linf_distance(x, weight), distance)
    assert torch.equal(kernels.linf_distance_argmax(x, weight)[1], argmax)


def test_a_tie_gives_the_whole_gradient_to_the_lowest_index(every_kernel: str) -> None:
    x, weight = torch.tensor([[1.0, 3.0, -3.0, 3.0]]), torch.zeros(1, 4)
    distance, grad_x, grad_weight = linf_and_gradients(x, weight, torch.tensor([[2.0]]))
    assert distance.item() == 3.0
    assert torch.equal(grad_x, torch.tensor([[0.0, 2.0, 0.0, 0.0]]))
    assert torch.equal(grad_weight, torch.tensor([[0.0, -2.0, 0.0, 0.0]]))


def test_rows_equal_to_their_weights_have_distance_0_and_gradient_0(every_kernel: str) -> None:
    x = torch.randn(4, 9)
    distance, grad_x, grad_weight = linf_and_gradients(x, x.clone(), torch.eye(4))
    assert torch.equal(distance.diagonal(), torch.zeros(4))
    assert torch.equal(grad_x, torch.zeros(4, 9))
    assert torch.equal(grad_weight, torch.zeros(4, 9))


def test_nan_reaches_exactly_the_outputs_that_see_it(every_kernel: str) -> None:
    x, weight = torch.randn(20, 40), torch.randn(30, 40)
    clean = kernels.linf_distance(x, weight)
    x[3, 7], weight[5, 11] = math.nan, math.nan
    distance = kernels.linf_distance(x, weight)
    expected = torch.zeros(20, 30, dtype=torch.bool)
    expected[3], expected[:, 5] = True, True
    assert torch.equal(distance.isnan(), expected)
    assert torch.equal(distance[~expected], clean[~expected])
    assert (kernels.linf_distance_argmax(x, weight)[1][3, :5] == 7).all()


def test_denormal_numbers_count(every_kernel: str) -> None:
    x, weight = torch.full((1, 3), 1e-40), torch.zeros(1, 3)
    assert kernels.linf_distance(x, weight).item() == x[0, 0].item() > 0


def test_distance_is_1_lipschitz(every_kernel: str) -> None:
    x, weight = operands(FEW_DECIDE, 60, 70, 80)
    for step in (1e-3, 0.1, 5.0):
        noise = step * (2 * torch.rand(60, 70) - 1)
        change = kernels.linf_distance(x + noise, weight) - kernels.linf_distance(x, weight)
        assert (change.abs() <= step + 1e-6 * (12 + step)).all()


def test_float64_is_exact_and_has_the_same_gradient_rule() -> None:
    x, weight = torch.randn(30, 70).double(), torch.randn(20, 70).double()
    grad = torch.randn(30, 20).double()
    distance, grad_x, grad_weight = linf_and_gradients(x, weight, grad)
    exact, argmax = reference.linf_distance_argmax(x, weight, 1)
    expected_x, expected_weight = reference.linf_distance_backward(grad, x, weight, argmax, 1)
    assert torch.equal(distance, exact)
    assert torch.allclose(grad_x, expected_x)
    assert torch.allclose(grad_weight, expected_weight)


def test_plain_operator_has_the_gradient_of_the_one_that_keeps_the_argmax() -> None:
    x, weight = torch.randn(6, 8, requires_grad=True), torch.randn(5, 8, requires_grad=True)
    plain = torch.autograd.grad(torch.ops.supnorm.linf_distance(x, weight, 1).sum(), (x, weight))
    kept = torch.autograd.grad(kernels.linf_distance(x, weight).sum(), (x, weight))
    for a, b in zip(plain, kept, strict=True):
        assert torch.equal(a, b)
