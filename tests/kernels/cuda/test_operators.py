import math

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.cuda import operators
from tests.kernels.conftest import FLOOR, error_of
from tests.kernels.cuda.shim import HostShim

# B, I, O, groups: one thread's work, tails of every tile, one large batch, few outputs, groups.
SHAPES = ((1, 1, 1, 1), (3, 5, 2, 1), (70, 33, 45, 1), (130, 64, 24, 3), (9, 1000, 10, 1))
EXPONENTS = (2.0, 2.5, 8.0, 9.1, 14.0, 15.1, 18.5, 30.0, 30.5, 44.4, 99.0, 1000.0)
SPECIAL_FUNCTION = 2.0**-21
"""What the GPU's log2 and exp2 may add to a distance; the shim lets them err as much."""


def operands(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    batch, inputs, outputs, groups = shape
    return torch.randn(batch, inputs * groups), torch.randn(outputs, inputs)


@pytest.mark.parametrize("num_processors", [1, 132])
@pytest.mark.parametrize("shape", SHAPES)
def test_linf_distance_and_argmax_are_exactly_those_of_the_formula(
    shim: HostShim, shape: tuple[int, int, int, int], num_processors: int
) -> None:
    shim.num_processors = num_processors
    x, weight = operands(shape)
    distance, argmax = reference.linf_distance_argmax(x, weight, shape[3])
    assert torch.equal(operators.linf_distance(shim, x, weight, shape[3]), distance)
    ours, index = operators.linf_distance_argmax(shim, x, weight, shape[3])
    assert torch.equal(ours, distance)
    assert torch.equal(index, argmax)


def test_of_equal_maxima_the_lowest_index_decides(shim: HostShim) -> None:
    for num_processors in (1, 132):
        shim.num_processors = num_processors
        x = torch.randint(3, (20, 150)).float()
        weight = torch.randint(3, (30, 150)).float()
        _, argmax = reference.linf_distance_argmax(x, weight, 1)
        assert torch.equal(operators.linf_distance_argmax(shim, x, weight, 1)[1], argmax)


@pytest.mark.parametrize("shape", SHAPES)
def test_bounds_are_exactly_those_of_the_formula(
    shim: HostShim, shape: tuple[int, int, int, int]
) -> None:
    lower, weight = operands(shape)
    upper = lower + torch.rand_like(lower)
    for num_processors in (1, 132):
        shim.num_processors = num_processors
        ours = operators.linf_distance_bounds(shim, lower, upper, weight, shape[3])
        exact = reference.linf_distance_bounds(lower, upper, weight, shape[3])
        assert torch.equal(ours[0], exact[0])
        assert torch.equal(ours[1], exact[1])


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lp_distance_errs_no_more_than_twice_the_formula_in_float32(
    shim: HostShim, shape: tuple[int, int, int, int], p: float
) -> None:
    x, weight = operands(shape)
    exact = reference.lp_distance(x.double(), weight.double(), p, shape[3])
    allowed = 2 * error_of(reference.lp_distance(x, weight, p, shape[3]), exact)
    for num_processors in (1, 132):
        shim.num_processors = num_processors
        error = error_of(operators.lp_distance(shim, x, weight, p, shape[3]), exact)
        assert error <= allowed + SPECIAL_FUNCTION


@pytest.mark.parametrize("p", [2.0, 8.0, 14.0, 30.0, 9.1, 200.0])
def test_distances_of_any_size_are_right(shim: HostShim, p: float) -> None:
    """Beside each other, where one scale cannot serve them all."""
    size = torch.tensor([1e-44, 1e-38, 1e-20, 1e-5, 1.0, 1e5, 1e20, 1e37])
    x, weight = size[:, None] * torch.randn(8, 40), torch.zeros(2, 40)
    exact = reference.lp_distance(x.double(), weight.double(), p, 1)
    distance = operators.lp_distance(shim, x, weight, p, 1)
    assert torch.allclose(distance.double(), exact, rtol=1e-6, atol=2e-45)


@pytest.mark.parametrize("p", [2.0, 2.5, 8.0, 9.1, 14.0, 18.5, 44.4, 99.0])
def test_many_small_terms_count_until_all_of_them_are_nothing(shim: HostShim, p: float) -> None:
    """The worst case: terms that vanish one by one beside the largest but matter together."""
    bits = torch.tensor([10, 20, 22, 24, 24.1, 25, 26, 28, 30, 32, 36, 37.9, 38.1, 40])
    x = (2 ** (-bits / p))[:, None].repeat(1, 4096)
    x[:, 7] = 1.0
    weight = torch.zeros(1, 4096)
    exact = reference.lp_distance(x.double(), weight.double(), p, 1)
    plain = reference.lp_distance(x, weight, p, 1)
    shim.num_processors = 1
    error = operators.lp_distance(shim, x, weight, p, 1).double() - exact
    assert (error.abs() <= 2 * (plain.double() - exact).abs() + FLOOR * exact).all()


@pytest.mark.parametrize("p", [8.0, 14.0, 9.1])
def test_rows_equal_to_their_weights_have_distance_0(shim: HostShim, p: float) -> None:
    x = torch.randn(4, 9)
    assert torch.equal(operators.lp_distance(shim, x, x, p, 1).diagonal(), torch.zeros(4))
    assert torch.equal(operators.linf_distance(shim, x, x, 1).diagonal(), torch.zeros(4))


@pytest.mark.parametrize("num_processors", [1, 132])
def test_nan_reaches_exactly_the_outputs_that_see_it(shim: HostShim, num_processors: int) -> None:
    shim.num_processors = num_processors
    x, weight = torch.randn(20, 140), torch.randn(30, 140)
    x[3, 7], weight[5, 111] = math.nan, math.nan
    expected = torch.zeros(20, 30, dtype=torch.bool)
    expected[3], expected[:, 5] = True, True
    smallest, largest = operators.linf_distance_bounds(shim, x, x, weight, 1)
    distance, argmax = operators.linf_distance_argmax(shim, x, weight, 1)
    results = [distance, smallest, largest, operators.linf_distance(shim, x, weight, 1)]
    results += [operators.lp_distance(shim, x, weight, p, 1) for p in (8.0, 14.0, 9.1)]
    for result in results:
        assert torch.equal(result.isnan(), expected)
    assert (argmax[3, :5] == 7).all()


@pytest.mark.parametrize("p", [8.0, 14.0, 9.1])
def test_infinite_input_makes_an_infinite_distance(shim: HostShim, p: float) -> None:
    x = torch.zeros(1, 3)
    x[0, 1] = math.inf
    assert operators.lp_distance(shim, x, torch.zeros(1, 3), p, 1).item() == math.inf


def test_memory_layout_does_not_matter(shim: HostShim) -> None:
    memory = torch.randn(12 * 36 + 1)
    rows = memory[1:].view(12, 36)  # not aligned to 16 bytes
    turned = torch.randn(36, 20).t()
    for x, weight in ((rows, turned), (turned, rows)):
        expected = reference.linf_distance(x, weight, 1)
        assert torch.equal(operators.linf_distance(shim, x, weight, 1), expected)
        assert torch.allclose(
            operators.lp_distance(shim, x, weight, 8.0, 1), reference.lp_distance(x, weight, 8.0, 1)
        )


def test_empty_batches_and_no_outputs_give_empty_results(shim: HostShim) -> None:
    for batch, outputs in ((0, 3), (2, 0)):
        x, weight = torch.randn(batch, 4), torch.randn(outputs, 4)
        results = [operators.lp_distance(shim, x, weight, p, 1) for p in (8.0, 9.1)]
        results += operators.linf_distance_argmax(shim, x, weight, 1)
        results += operators.linf_distance_bounds(shim, x, x, weight, 1)
        for result in (*results, operators.linf_distance(shim, x, weight, 1)):
            assert result.shape == (batch, outputs)


def test_bits_do_not_depend_on_the_order_of_blocks_and_threads(compiled_shim: HostShim) -> None:
    compiled_shim.num_processors = 132
    x, weight = torch.randn(150, 260), torch.randn(40, 260)
    results = []
    for is_ascending in (True, False):
        compiled_shim.is_ascending = is_ascending
        results.append([operators.lp_distance(compiled_shim, x, weight, p, 1) for p in (8.0, 9.1)])
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
