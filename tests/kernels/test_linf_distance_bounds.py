import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import reference


def boxes(batch: int, inputs: int, radius: float = 0.3) -> tuple[Tensor, Tensor]:
    centre, size = torch.randn(batch, inputs), radius * torch.rand(batch, inputs)
    return centre - size, centre + size


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 5, 2), (70, 33, 45), (64, 128, 96), (9, 1000, 10)]
)
def test_bounds_are_exactly_those_of_the_formula(
    every_kernel: str, shape: tuple[int, int, int]
) -> None:
    batch, inputs, outputs = shape
    lower, upper = boxes(batch, inputs)
    weight = torch.randn(outputs, inputs)
    bounds = kernels.linf_distance_bounds(lower, upper, weight)
    for ours, exact in zip(
        bounds, reference.linf_distance_bounds(lower, upper, weight, 1), strict=True
    ):
        assert torch.equal(ours, exact)


def test_bounds_of_a_hand_worked_case() -> None:
    lower, upper = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 1.0]])
    smallest, largest = kernels.linf_distance_bounds(lower, upper, torch.tensor([[4.0, 0.5]]))
    assert (smallest.item(), largest.item()) == (2.0, 3.0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 20)),
    exponent=st.integers(-29, 29),
    seed=st.integers(0, 2**31),
)
def test_what_linf_distance_returns_in_the_box_is_within_the_bounds_without_slack(
    sizes: tuple[int, int, int], exponent: int, seed: int
) -> None:
    batch, inputs, outputs = sizes
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randn(2, batch, inputs, generator=generator) * 10.0**exponent
    lower, upper = ends.amin(0), ends.amax(0)
    weight = torch.randn(outputs, inputs, generator=generator) * 10.0**exponent
    smallest, largest = kernels.linf_distance_bounds(lower, upper, weight)
    inside = lower + torch.rand(batch, inputs, generator=generator) * (upper - lower)
    for x in (lower, upper, inside.clamp(lower, upper)):
        distance = kernels.linf_distance(x, weight)
        assert (smallest <= distance).all()
        assert (distance <= largest).all()


def test_both_bounds_are_reached() -> None:
    lower, upper = boxes(20, 30)
    weight = torch.randn(10, 30)
    smallest, largest = kernels.linf_distance_bounds(lower, upper, weight)
    for row in range(10):
        nearest = weight[row].clamp(lower, upper)
        farthest = torch.where((upper - weight[row]) >= (weight[row] - lower), upper, lower)
        assert torch.equal(kernels.linf_distance(nearest, weight)[:, row], smallest[:, row])
        assert torch.equal(kernels.linf_distance(farthest, weight)[:, row], largest[:, row])


def test_a_box_of_one_point_has_both_bounds_at_the_distance(every_kernel: str) -> None:
    x, weight = torch.randn(20, 30), torch.randn(10, 30)
    smallest, largest = kernels.linf_distance_bounds(x, x, weight)
    distance = kernels.linf_distance(x, weight)
    assert torch.equal(smallest, distance) and torch.equal(largest, distance)


def test_nan_reaches_exactly_the_outputs_that_see_it(every_kernel: str) -> None:
    lower, upper = boxes(6, 9)
    weight = torch.randn(4, 9)
    lower[2, 3] = math.nan
    smallest, largest = kernels.linf_distance_bounds(lower, upper, weight)
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[2] = True
    assert torch.equal(smallest.isnan(), expected) and torch.equal(largest.isnan(), expected)


def test_float64_is_exact() -> None:
    lower, upper = (end.double() for end in boxes(9, 20))
    weight = torch.randn(7, 20).double()
    bounds = kernels.linf_distance_bounds(lower, upper, weight)
    for ours, exact in zip(
        bounds, reference.linf_distance_bounds(lower, upper, weight, 1), strict=True
    ):
        assert torch.equal(ours, exact)
