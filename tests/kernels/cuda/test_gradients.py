import math

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.cuda import gradients, scatter
from tests.kernels.conftest import error_of
from tests.kernels.cuda.shim import HostShim

SHAPES = ((1, 1, 1, 1), (3, 5, 2, 1), (150, 33, 45, 1), (130, 64, 24, 3), (9, 300, 10, 1))
EXPONENTS = (2.0, 2.5, 8.0, 9.1, 14.0, 20.3, 26.5, 30.0, 44.4, 55.5, 99.0, 1000.0)
BOTH = [True, True]


def operands(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    batch, inputs, outputs, groups = shape
    weight = torch.randn(outputs, inputs)
    return torch.randn(batch, outputs), torch.randn(batch, inputs * groups), weight


@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lp_gradients_err_little_more_than_the_formula_in_float32(
    shim: HostShim, shape: tuple[int, int, int, int], p: float
) -> None:
    grad, x, weight = operands(shape)
    distance = reference.lp_distance(x, weight, p, shape[3])
    exact = reference.lp_distance_backward(
        grad.double(), x.double(), weight.double(), distance.double(), p, shape[3]
    )
    plain = reference.lp_distance_backward(grad, x, weight, distance, p, shape[3])
    terms = reference.lp_distance_backward(
        grad.double().abs(), x.double(), weight.double(), distance.double(), p, shape[3]
    )
    for num_processors in (1, 132):
        shim.num_processors = num_processors
        ours = gradients.lp_distance_backward(shim, grad, x, weight, distance, p, shape[3], BOTH)
        for value, right, formula, size in zip(ours, exact, plain, terms, strict=True):
            scale = torch.maximum(right.abs(), size.abs())
            # The power takes the rounding of its base, and the errors of log2 and exp2, p-fold.
            allowed = 2 * error_of(formula, right, scale) + (p + 2) * 2.0**-22
            assert error_of(value, right, scale) <= allowed


@pytest.mark.parametrize("p", [8.0, 14.0, 9.1])
def test_one_wanted_gradient_is_the_same_as_with_both(shim: HostShim, p: float) -> None:
    grad, x, weight = operands((20, 30, 10, 1))
    distance = reference.lp_distance(x, weight, p, 1)

    def run(mask: list[bool]) -> tuple[Tensor, Tensor]:
        return gradients.lp_distance_backward(shim, grad, x, weight, distance, p, 1, mask)

    both = run(BOTH)
    only_x, only_weight = run([True, False]), run([False, True])
    assert torch.equal(only_x[0], both[0]) and only_x[1].shape == (0,)
    assert torch.equal(only_weight[1], both[1]) and only_weight[0].shape == (0,)


@pytest.mark.parametrize("p", [2.0, 8.0, 14.0, 30.0, 9.1, 200.0])
def test_gradients_of_distances_of_any_size_are_right(shim: HostShim, p: float) -> None:
    size = torch.tensor([1e-44, 1e-38, 1e-20, 1e-5, 1.0, 1e5, 1e20, 1e37])
    x, weight, grad = size[:, None] * torch.randn(8, 40), torch.zeros(2, 40), torch.randn(8, 2)
    distance = reference.lp_distance(x.double(), weight.double(), p, 1).float()
    exact = reference.lp_distance_backward(
        grad.double(), x.double(), weight.double(), distance.double(), p, 1
    )
    ours = gradients.lp_distance_backward(shim, grad, x, weight, distance, p, 1, BOTH)
    for value, right in zip(ours, exact, strict=True):
        assert torch.allclose(value.double(), right, rtol=1e-6 * p, atol=1e-6)


@pytest.mark.parametrize("p", [8.0, 14.0, 9.1])
@pytest.mark.parametrize("rows", [1, 4])
def test_rows_equal_to_their_weights_have_gradient_0(shim: HostShim, rows: int, p: float) -> None:
    x, grad = 1e10 * torch.randn(rows, 9), torch.eye(rows)
    distance = reference.lp_distance(x, x, p, 1)
    for gradient in gradients.lp_distance_backward(shim, grad, x, x, distance, p, 1, BOTH):
        assert torch.equal(gradient, torch.zeros(rows, 9))


@pytest.mark.parametrize("p", [2.0, 8.0, 14.0, 9.1])
def test_large_inputs_that_equal_their_weights_leave_small_differences_alone(
    shim: HostShim, p: float
) -> None:
    x, weight = torch.tensor([[1e30, 1e-20]]), torch.tensor([[1e30, 0.0]])
    distance, grad = torch.tensor([[1e-20]]), torch.ones(1, 1)
    grad_x, grad_w = gradients.lp_distance_backward(shim, grad, x, weight, distance, p, 1, BOTH)
    assert torch.allclose(grad_x, torch.tensor([[0.0, 1.0]]))
    assert torch.equal(grad_w, -grad_x)


@pytest.mark.parametrize("shape", SHAPES)
def test_linf_gradients_go_to_the_deciding_inputs(
    shim: HostShim, shape: tuple[int, int, int, int]
) -> None:
    grad, x, weight = operands(shape)
    _, argmax = reference.linf_distance_argmax(x, weight, shape[3])
    ours = scatter.linf_distance_backward(shim, grad, x, weight, argmax, shape[3], BOTH)
    exact = reference.linf_distance_backward(grad, x, weight, argmax, shape[3])
    for value, right in zip(ours, exact, strict=True):
        assert torch.allclose(value, right, atol=1e-5)


def test_linf_gradients_add_up_where_one_input_decides_all(shim: HostShim) -> None:
    """Hundreds of entries for one cell, in one fixed order; rows longer than a warp's window."""
    grad, x, weight = operands((70, 2100, 45, 1))
    argmax = torch.full((70, 45), 2077, dtype=torch.int32)
    ours = scatter.linf_distance_backward(shim, grad, x, weight, argmax, 1, BOTH)
    exact = reference.linf_distance_backward(grad, x, weight, argmax, 1)
    for value, right in zip(ours, exact, strict=True):
        assert torch.allclose(value, right, atol=1e-5)


def test_nan_distance_makes_nan_gradients(shim: HostShim) -> None:
    x, weight = torch.randn(4, 9), torch.randn(3, 9)
    for p in (8.0, 9.1):
        distance = reference.lp_distance(x, weight, p, 1)
        distance[1, 2] = math.nan
        grad_x, grad_w = gradients.lp_distance_backward(
            shim, torch.ones(4, 3), x, weight, distance, p, 1, BOTH
        )
        assert grad_x.isnan().any(1).tolist() == [False, True, False, False]
        assert grad_w.isnan().any(1).tolist() == [False, False, True]


def test_gradients_of_nothing_are_zero(shim: HostShim) -> None:
    empty, x, weight = torch.randn(0, 3), torch.randn(0, 4), torch.randn(3, 4)
    index = torch.zeros(0, 3, dtype=torch.int32)
    for result in (
        gradients.lp_distance_backward(shim, empty, x, weight, empty, 8.0, 1, BOTH),
        scatter.linf_distance_backward(shim, empty, x, weight, index, 1, BOTH),
    ):
        assert result[0].shape == (0, 4)
        assert torch.equal(result[-1], torch.zeros(3, 4))


def test_bits_do_not_depend_on_the_order_of_blocks_and_threads(compiled_shim: HostShim) -> None:
    compiled_shim.num_processors = 132
    grad, x, weight = operands((150, 70, 90, 1))
    for p in (8.0, 9.1):
        distance = reference.lp_distance(x, weight, p, 1)
        results = []
        for is_ascending in (True, False):
            compiled_shim.is_ascending = is_ascending
            results.append(
                gradients.lp_distance_backward(compiled_shim, grad, x, weight, distance, p, 1, BOTH)
            )
        for first, second in zip(*results, strict=True):
            assert torch.equal(first, second)
