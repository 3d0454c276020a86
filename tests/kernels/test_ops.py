"""What all operators have in common: arguments, layouts, groups, determinism."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import kernels

Operator = Callable[..., Tensor]


def lp(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return kernels.lp_distance(x, weight, 8.5, groups)


def squares(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return kernels.lp_distance(x, weight, 8.0, groups)


def bounds(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return torch.stack(kernels.linf_distance_bounds(x - 0.1, x + 0.1, weight, groups))


def argmax(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    return kernels.linf_distance_argmax(x, weight, groups)[1]


OPERATORS = [lp, squares, kernels.linf_distance, argmax, bounds]
DIFFERENTIABLE = [lp, squares, kernels.linf_distance]
each_operator = pytest.mark.parametrize("operator", OPERATORS)
each_differentiable = pytest.mark.parametrize("operator", DIFFERENTIABLE)


def gradients(operator: Operator, x: Tensor, weight: Tensor, groups: int = 1) -> list[Tensor]:
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = operator(x, weight, groups)
    generator = torch.Generator().manual_seed(1)
    grads = torch.autograd.grad(out, (x, weight), torch.randn(out.shape, generator=generator))
    return [out.detach(), *grads]


@each_operator
def test_groups_are_separate_operators_side_by_side(every_kernel: str, operator: Operator) -> None:
    x, weight = torch.randn(9, 3 * 20), torch.randn(3 * 4, 20)
    parts = [operator(x[:, g * 20 : (g + 1) * 20], weight[g * 4 : (g + 1) * 4]) for g in range(3)]
    assert torch.allclose(operator(x, weight, 3), torch.cat(parts, dim=-1))


@each_differentiable
def test_gradients_of_groups_are_those_of_the_parts(operator: Operator) -> None:
    x, weight = torch.randn(9, 2 * 20), torch.randn(2 * 4, 20)
    both = gradients(operator, x, weight, 2)
    generator = torch.Generator().manual_seed(1)
    flow = torch.randn(both[0].shape, generator=generator)
    for g in range(2):
        inputs, outputs = slice(g * 20, (g + 1) * 20), slice(g * 4, (g + 1) * 4)
        part_x, part_weight = x[:, inputs].clone(), weight[outputs].clone()
        part_x.requires_grad_(), part_weight.requires_grad_()
        grads = torch.autograd.grad(
            operator(part_x, part_weight), (part_x, part_weight), flow[..., outputs]
        )
        assert torch.allclose(both[1][:, inputs], grads[0], atol=1e-5)
        assert torch.allclose(both[2][outputs], grads[1], atol=1e-5)


@each_operator
def test_positions_are_separate_samples(operator: Operator) -> None:
    x, weight = torch.randn(5, 2 * 6, 7), torch.randn(4, 6)
    out = operator(x, weight, 2)
    assert out.shape[-3:] == (5, 4, 7) and out.is_contiguous()
    for position in range(7):
        assert torch.allclose(out[..., position], operator(x[:, :, position], weight, 2))


@each_operator
def test_memory_layout_does_not_matter(operator: Operator) -> None:
    x, weight = torch.randn(30, 9).t(), torch.randn(12, 60)[::2, ::2]
    assert torch.equal(operator(x, weight), operator(x.contiguous(), weight.contiguous()))


@each_operator
def test_empty_batches_and_no_outputs_give_empty_results(operator: Operator) -> None:
    assert operator(torch.randn(0, 4), torch.randn(3, 4)).shape[-2:] == (0, 3)
    assert operator(torch.randn(2, 4), torch.randn(0, 4)).shape[-2:] == (2, 0)
    assert operator(torch.randn(0, 4, 5), torch.randn(3, 4)).shape[-3:] == (0, 3, 5)


@each_differentiable
def test_gradient_of_an_empty_batch_is_zero(operator: Operator) -> None:
    _, grad_x, grad_weight = gradients(operator, torch.randn(0, 4), torch.randn(3, 4))
    assert grad_x.shape == (0, 4)
    assert torch.equal(grad_weight, torch.zeros(3, 4))


@each_differentiable
def test_bits_do_not_depend_on_the_run_or_the_number_of_threads(
    every_kernel: str, operator: Operator
) -> None:
    x, weight = torch.randn(150, 260), torch.randn(140, 260)
    weight[torch.arange(140), torch.arange(140)] = -10.0
    results = []
    for count in (1, 2, 3, 2):
        torch.set_num_threads(count)
        results.append(gradients(operator, x, weight))
    for other in results[1:]:
        for first, value in zip(results[0], other, strict=True):
            assert torch.equal(first, value)


def test_bits_of_bounds_do_not_depend_on_the_run_or_the_number_of_threads(
    every_kernel: str,
) -> None:
    x, weight = torch.randn(150, 260), torch.randn(140, 260)
    results = []
    for count in (1, 2, 3, 2):
        torch.set_num_threads(count)
        results.append(bounds(x, weight))
    for other in results[1:]:
        assert torch.equal(results[0], other)


def test_bounds_and_argmax_have_no_gradient() -> None:
    x, weight = torch.randn(4, 6, requires_grad=True), torch.randn(3, 6, requires_grad=True)
    assert not bounds(x, weight).requires_grad
    assert not any(t.requires_grad for t in kernels.linf_distance_argmax(x, weight))


@each_differentiable
def test_one_wanted_gradient_is_the_same_as_with_both(
    every_kernel: str, operator: Operator
) -> None:
    x, weight = torch.randn(20, 30), torch.randn(10, 30)
    out, grad_x, grad_weight = gradients(operator, x, weight)
    generator = torch.Generator().manual_seed(1)
    flow = torch.randn(out.shape, generator=generator)
    x_only, weight_only = x.clone().requires_grad_(), weight.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(operator(x_only, weight), x_only, flow)[0], grad_x)
    assert torch.equal(
        torch.autograd.grad(operator(x, weight_only), weight_only, flow)[0], grad_weight
    )


@each_differentiable
def test_gradcheck_passes(operator: Operator) -> None:
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: operator(a, b, 2), (x, weight))


@each_operator
@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "groups", "message"),
    [
        ((2, 4), (3, 5), 1, "4 inputs but weight"),
        ((2, 4), (3, 4), 2, "must divide the 3 outputs"),
        ((2, 4), (3, 4), 0, "must divide"),
        ((4,), (3, 4), 1, "expected \\(batch, inputs\\)"),
        ((2, 4, 1, 1), (3, 4), 1, "Flatten images"),
        ((2, 4), (4,), 1, "expected \\(outputs, inputs"),
        ((2, 0), (3, 0), 1, "inputs >= 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    operator: Operator,
    x_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    groups: int,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        operator(torch.zeros(x_shape), torch.zeros(weight_shape), groups)


@each_operator
def test_dtypes_that_do_not_fit_are_refused(operator: Operator) -> None:
    with pytest.raises(TypeError, match="dtypes differ"):
        operator(torch.zeros(2, 4), torch.zeros(3, 4, dtype=torch.float64))
    with pytest.raises(TypeError, match="float16; expected torch"):
        operator(torch.zeros(2, 4).half(), torch.zeros(3, 4).half())


@each_operator
def test_devices_that_do_not_fit_are_refused(operator: Operator) -> None:
    with pytest.raises(TypeError, match="is on cpu but weight on meta"):
        operator(torch.zeros(2, 4), torch.zeros(3, 4, device="meta"))


@pytest.mark.parametrize("p", [1.9, 0.0, -math.inf, 1000.5, math.nan])
def test_exponents_outside_2_to_1000_are_refused(p: float) -> None:
    with pytest.raises(ValueError, match="must be from 2 to 1000"):
        kernels.lp_distance(torch.zeros(2, 4), torch.zeros(3, 4), p)


def test_infinite_exponent_is_sent_to_linf_distance() -> None:
    with pytest.raises(ValueError, match="use linf_distance"):
        kernels.lp_distance(torch.zeros(2, 4), torch.zeros(3, 4), math.inf)


def test_boxes_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="they must have one shape"):
        kernels.linf_distance_bounds(torch.zeros(2, 4), torch.zeros(1, 4), torch.zeros(3, 4))
