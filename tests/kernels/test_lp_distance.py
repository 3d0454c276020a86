import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import reference
from tests.kernels.conftest import EXPONENTS, FLOOR, absolute_terms, error_of

SHAPES = ((1, 1, 1), (3, 5, 2), (70, 33, 45), (64, 128, 96), (9, 1000, 10), (130, 17, 131))


def lp_and_gradients(
    x: Tensor, weight: Tensor, p: float, grad: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    distance = kernels.lp_distance(x, weight, p, groups)
    distance.backward(grad)
    assert x.grad is not None and weight.grad is not None
    return distance.detach(), x.grad, weight.grad


def exact_and_reference(
    x: Tensor, weight: Tensor, p: float, grad: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """(float64, float32 reference) of the distance and both gradients."""
    results = []
    for dtype in (torch.float64, torch.float32):
        a, w = x.to(dtype), weight.to(dtype)
        distance = reference.lp_distance(a, w, p, 1)
        gradients = reference.lp_distance_backward(grad.to(dtype), a, w, distance, p, 1)
        results.append((distance, *gradients))
    return list(zip(*results, strict=True))


def assert_accurate(x: Tensor, weight: Tensor, p: float, grad: Tensor) -> None:
    ours = lp_and_gradients(x, weight, p, grad)
    limits = (FLOOR, p * FLOOR, p * FLOOR)
    names = ("distance", "grad_x", "grad_weight")
    results = exact_and_reference(x, weight, p, grad)
    sums = absolute_terms(x, weight, p, grad, results[0][0])
    for name, value, (exact, plain), terms, floor in zip(
        names, ours, results, sums, limits, strict=True
    ):
        allowed = 2 * error_of(plain, exact, terms) + floor
        assert error_of(value, exact, terms) <= allowed, f"{name} at p={p}, {tuple(x.shape)}"


def test_distance_of_hand_worked_cases() -> None:
    x = torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    weight = torch.tensor([[0.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(
        kernels.lp_distance(x, weight, 2.0), torch.tensor([[5.0, 3.0], [3.0, 3.0]])
    )
    assert torch.allclose(
        kernels.lp_distance(x, weight, 4.0)[0], torch.tensor([(81 + 256) ** 0.25, 3.0])
    )


def test_gradient_of_a_hand_worked_case() -> None:
    x, weight = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    _, grad_x, grad_weight = lp_and_gradients(x, weight, 2.0, torch.tensor([[10.0]]))
    assert torch.allclose(grad_x, torch.tensor([[6.0, -8.0]]))
    assert torch.allclose(grad_weight, torch.tensor([[-6.0, 8.0]]))


@pytest.mark.parametrize("p", EXPONENTS)
def test_error_is_at_most_twice_that_of_the_reference(every_kernel: str, p: float) -> None:
    for batch, inputs, outputs in SHAPES:
        x, weight = torch.randn(batch, inputs), torch.randn(outputs, inputs)
        if outputs >= inputs:
            weight[:, 0] = -10.0
        assert_accurate(x, weight, p, torch.randn(batch, outputs))


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 70), st.integers(1, 40)),
    p=st.one_of(st.sampled_from((2.0, 4.0, 8.0, 16.0)), st.floats(2.0, 1000.0)),
    spread=st.floats(-3.0, 3.0),
    scale=st.floats(-25.0, 25.0),
    seed=st.integers(0, 2**31),
)
def test_drawn_shapes_and_values_are_accurate(
    sizes: tuple[int, int, int], p: float, spread: float, scale: float, seed: int
) -> None:
    batch, inputs, outputs = sizes
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    # From nearly equal to wildly different sizes within one operand, then all of it scaled.
    stretch = torch.exp(spread * torch.randn(inputs, generator=generator))
    grad = torch.randn(batch, outputs, generator=generator)
    assert_accurate(x * stretch * 10.0**scale, weight * stretch * 10.0**scale, p, grad)


@pytest.mark.parametrize("p", [2.0, 8.0, 8.3, 40.0, 1000.0])
def test_sizes_from_1e_minus_30_to_1e30_in_one_call_are_right(every_kernel: str, p: float) -> None:
    sizes = torch.tensor([1e-30, 1e-12, 1.0, 1e12, 1e30]).unsqueeze(1)
    x, weight = sizes * torch.rand(5, 7), sizes * torch.rand(5, 7)
    grad = torch.ones(5, 5)
    distance, grad_x, grad_weight = lp_and_gradients(x, weight, p, grad)
    (exact, _), (exact_x, _), (exact_weight, _) = exact_and_reference(x, weight, p, grad)
    assert torch.allclose(distance.double(), exact, rtol=1e-6, atol=0)
    assert torch.allclose(grad_x.double(), exact_x, rtol=1e-4 * p, atol=1e-6)
    assert torch.allclose(grad_weight.double(), exact_weight, rtol=1e-4 * p, atol=1e-6)


@pytest.mark.parametrize("p", [8.0, 8.1, 20.5, 100.0])
def test_gradients_far_below_the_largest_are_kept(every_kernel: str, p: float) -> None:
    """Adam divides by a gradient's own size, so a tiny one moves a weight like a large one.

    Not below its epsilon, 1e-10, where 2^-40 lies.
    """
    bits = torch.arange(0.0, 50.0, 2.0)
    size = torch.exp2(-bits / (p - 1))
    x, weight = size.unsqueeze(0), torch.zeros(1, len(bits))
    _, grad_x, _ = lp_and_gradients(x, weight, p, torch.ones(1, 1))
    distance = size.double().pow(p).sum().pow(1 / p)
    exact = (size.double() / distance).pow(p - 1)
    is_kept = exact > 2.0**-40
    assert torch.allclose(grad_x[0, is_kept].double(), exact[is_kept], rtol=1e-3, atol=0)
    assert torch.allclose(grad_x[0].double(), exact, rtol=1e-3, atol=2.0**-40)


def test_rows_equal_to_their_weights_have_distance_0_and_gradient_0(every_kernel: str) -> None:
    x = torch.randn(4, 9)
    for p in (2.0, 8.0, 9.5, 500.0):
        distance, grad_x, grad_weight = lp_and_gradients(x, x.clone(), p, torch.eye(4))
        assert torch.equal(distance.diagonal(), torch.zeros(4))
        assert torch.equal(grad_x, torch.zeros(4, 9))
        assert torch.equal(grad_weight, torch.zeros(4, 9))


def test_all_zero_operands_have_distance_0(every_kernel: str) -> None:
    for p in (8.0, 9.5):
        distance, grad_x, _ = lp_and_gradients(
            torch.zeros(3, 5), torch.zeros(2, 5), p, torch.ones(3, 2)
        )
        assert torch.equal(distance, torch.zeros(3, 2))
        assert torch.equal(grad_x, torch.zeros(3, 5))


@pytest.mark.parametrize("p", [8.0, 11.3])
def test_nan_reaches_exactly_the_outputs_that_see_it(every_kernel: str, p: float) -> None:
    x, weight = torch.randn(20, 40), torch.randn(30, 40)
    clean = kernels.lp_distance(x, weight, p)
    x[3, 7], weight[5, 11] = math.nan, math.nan
    distance = kernels.lp_distance(x, weight, p)
    expected = torch.zeros(20, 30, dtype=torch.bool)
    expected[3], expected[:, 5] = True, True
    assert torch.equal(distance.isnan(), expected)
    assert torch.allclose(distance[~expected], clean[~expected])


def test_infinite_input_makes_an_infinite_distance(every_kernel: str) -> None:
    x = torch.zeros(1, 3)
    x[0, 1] = math.inf
    assert kernels.lp_distance(x, torch.zeros(1, 3), 8.5).item() == math.inf


@pytest.mark.parametrize("p", [8.0, 30.5])
def test_distance_is_1_lipschitz_in_the_p_norm(every_kernel: str, p: float) -> None:
    x, weight = torch.randn(50, 60), torch.randn(40, 60)
    step = 0.1 * torch.randn(50, 60)
    change = (kernels.lp_distance(x + step, weight, p) - kernels.lp_distance(x, weight, p)).abs()
    allowed = step.double().abs().pow(p).sum(1).pow(1 / p)
    assert (change.double() <= allowed.unsqueeze(1) + 1e-5).all()


def test_distance_falls_to_the_maximum_as_p_grows(every_kernel: str) -> None:
    x, weight = torch.randn(30, 50), torch.randn(20, 50)
    values = [kernels.lp_distance(x, weight, p) for p in (2.0, 8.0, 8.5, 64.0, 1000.0)]
    values.append(kernels.linf_distance(x, weight))
    for larger, smaller in itertools.pairwise(values):
        assert (larger >= smaller * (1 - 1e-6)).all()


@pytest.mark.parametrize("p", [3.0, 8.0, 25.7])
def test_float64_agrees_with_the_formula(p: float) -> None:
    x, weight = torch.randn(7, 12).double(), torch.randn(5, 12).double()
    grad = torch.randn(7, 5).double()
    distance, grad_x, grad_weight = lp_and_gradients(x, weight, p, grad)
    (exact, _), (exact_x, _), (exact_weight, _) = exact_and_reference(x, weight, p, grad)
    assert torch.allclose(distance, exact, rtol=1e-13)
    assert torch.allclose(grad_x, exact_x, rtol=1e-10)
    assert torch.allclose(grad_weight, exact_weight, rtol=1e-10)
