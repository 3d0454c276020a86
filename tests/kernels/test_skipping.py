"""Leaving out inputs that cannot matter changes nothing that float32 can tell."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import reference
from kernels.backend import every_input
from tests.kernels.conftest import FLOOR, absolute_terms, error_of

# A sum misses less than 2^-26 of itself, and a slope that is left out is below 2^-40: what is left
# is the rounding of sums in another order, which the power multiplies p times.
TOLERANCE = 4e-7


def operands(
    batch: int, inputs: int, outputs: int, spread: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights of which one an output is far away, as a projection's is: few inputs matter."""
    generator = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(batch, inputs, generator=generator)
    weight = torch.randn(outputs, inputs, generator=generator)
    weight[torch.arange(outputs), torch.arange(outputs) % inputs] = -10.0
    return x, weight


def gradient_of(shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def results(x: Tensor, weight: Tensor, p: float) -> list[Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    distance = (
        kernels.linf_distance(x, weight) if math.isinf(p) else kernels.lp_distance(x, weight, p)
    )
    grad = gradient_of(distance.shape)
    return [distance.detach(), *torch.autograd.grad(distance, (x, weight), grad)]


def assert_skipping_changes_nothing(x: Tensor, weight: Tensor, p: float) -> None:
    skipped = results(x, weight, p)
    with every_input():
        dense = results(x, weight, p)
    if math.isinf(p):
        assert all(torch.equal(a, b) for a, b in zip(skipped, dense, strict=True))
        return
    assert torch.allclose(skipped[0], dense[0], rtol=TOLERANCE, atol=0)
    distance = dense[0].double()
    terms = absolute_terms(x, weight, p, gradient_of(distance.shape), distance)
    for a, b, sums in zip(skipped[1:], dense[1:], terms[1:], strict=True):
        assert error_of(a, b.double(), sums) <= 2 * p * TOLERANCE


@pytest.mark.parametrize("p", [9.3, 16.5, 24.0, 37.0, 100.5, 300.0, 1000.0, math.inf])
def test_skipped_and_dense_results_agree(every_kernel: str, p: float) -> None:
    for spread in (0.1, 1.0, 3.0):
        assert_skipping_changes_nothing(*operands(130, 170, 131, spread, 0), p)


def test_rows_with_smaller_maxima_than_the_last_are_exact(every_kernel: str) -> None:
    """What was looked at for such a row was chosen by too large a guess of its maxima."""
    x, weight = operands(130, 170, 131, 1.0, 0)
    weight *= torch.linspace(1.0, 0.7, 131)[:, None] - 0.1 * (torch.arange(131)[:, None] % 2)
    skipped = kernels.linf_distance(x, weight)
    with every_input():
        assert torch.equal(skipped, kernels.linf_distance(x, weight))
    assert_skipping_changes_nothing(x, weight, math.inf)


@pytest.mark.parametrize("p", [37.0, math.inf])
def test_equal_samples_leave_no_room_in_the_bound(every_kernel: str, p: float) -> None:
    """What a block of samples spans is one point: the largest difference is the bound itself."""
    x, weight = operands(1, 170, 131, 1.0, 0)
    assert_skipping_changes_nothing(x.expand(130, -1).contiguous(), weight, p)
    assert_skipping_changes_nothing(x.expand(130, -1).contiguous(), weight[:1].repeat(70, 1), p)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 140), st.integers(1, 150), st.integers(1, 60)),
    p=st.one_of(st.floats(2.0, 1000.0), st.just(math.inf)),
    spread=st.floats(0.0, 5.0),
    seed=st.integers(0, 2**31),
)
def test_drawn_skipped_and_dense_results_agree(
    sizes: tuple[int, int, int], p: float, spread: float, seed: int
) -> None:
    assert_skipping_changes_nothing(*operands(*sizes, spread, seed), p)


@pytest.mark.parametrize("p", [2.0, 2.5, 4.0, 8.0, 8.1, 16.0, 37.0])
def test_many_small_terms_count_until_all_of_them_are_nothing(every_kernel: str, p: float) -> None:
    """The worst case: terms that vanish one by one beside the largest but matter together.

    With more bits they are as small as may just be left out.
    """
    inputs = 4096
    for bits in (10, 20, 22, 24, 24.1, 25, 26, 28, 30, 32, 36, 37.9, 38.1, 40):
        x = torch.full((1, inputs), 2.0 ** (-bits / p))
        x[0, 7] = 1.0
        weight = torch.zeros(1, inputs)
        exact = reference.lp_distance(x.double(), weight.double(), p, 1)
        plain = reference.lp_distance(x, weight, p, 1)
        allowed = 2 * error_of(plain, exact) + FLOOR
        assert error_of(kernels.lp_distance(x, weight, p), exact) <= allowed, f"{bits} bits"


@pytest.mark.parametrize("num_inputs", [1, 40], ids=["dense", "lists"])
@pytest.mark.parametrize("p", [2.0, 8.0, 8.1, 37.0, 300.0])
def test_long_sums_of_gradients_are_not_rounded_term_by_term(
    every_kernel: str, p: float, num_inputs: int
) -> None:
    """The worst case: equal terms, each of which is rounded the same way beside a large sum."""
    many = 8192
    x, weight = torch.zeros(1, num_inputs), torch.zeros(many, num_inputs)
    x[0, 0] = 1.0
    grad = torch.full((1, many), 1.0 / 3.0)
    for one, other, flow in ((x, weight, grad), (weight, x, grad.T)):
        a, b = one.clone().requires_grad_(), other.clone().requires_grad_()
        distance = kernels.lp_distance(a, b, p)
        gradients = torch.autograd.grad(distance, (a, b), flow)
        values = one.double(), other.double()
        exact_distance = reference.lp_distance(*values, p, 1)
        exact = reference.lp_distance_backward(flow.double(), *values, exact_distance, p, 1)
        plain = reference.lp_distance_backward(flow, one, other, distance.detach(), p, 1)
        for ours, right, theirs in zip(gradients, exact, plain, strict=True):
            assert error_of(ours, right) <= 2 * error_of(theirs, right) + p * FLOOR
