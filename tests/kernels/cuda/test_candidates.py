"""Leaving out inputs that cannot matter: exact, and only where it pays."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kernels import reference
from kernels.cuda import gradients, operators
from kernels.cuda.candidates import find_candidates
from kernels.cuda.power_plan import on_device, plan_slope, plan_sum
from tests.kernels.conftest import FLOOR, error_of
from tests.kernels.cuda.shim import HostShim
from tests.kernels.cuda.test_faults import of, planted

TRAINED, RANDOM = "trained", "random"
SHAPES = ((130, 300, 70, 1), (64, 257, 128, 2))
EXPONENTS = (24.5, 37.0, 100.5, 300.0, 1000.0)


def operands(kind: str, shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Trained weights have a large entry for each output, and inputs that vary from one another."""
    batch, inputs, outputs, groups = shape
    x, weight = torch.randn(batch, inputs * groups), torch.randn(outputs, inputs)
    if kind == TRAINED:
        weight[torch.arange(outputs), torch.arange(outputs) % inputs] = -10.0
        weight[::2] *= -1
    return x, weight


def is_alone(shim: HostShim, x: Tensor, weight: Tensor, p: float, groups: int) -> bool:
    """Whether candidates alone are computed."""
    plan = None if math.isinf(p) else on_device(plan_sum(p), x)
    return find_candidates(shim, x, weight, groups, plan).gate.item() == 1


@pytest.mark.parametrize("kind", [TRAINED, RANDOM])
@pytest.mark.parametrize("shape", SHAPES)
def test_at_infinity_bits_are_those_of_the_formula(
    shim: HostShim, kind: str, shape: tuple[int, int, int, int]
) -> None:
    x, weight = operands(kind, shape)
    distance, argmax = reference.linf_distance_argmax(x, weight, shape[3])
    assert is_alone(shim, x, weight, math.inf, shape[3]) == (kind == TRAINED)
    assert torch.equal(operators.linf_distance(shim, x, weight, shape[3]), distance)
    ours, index = operators.linf_distance_argmax(shim, x, weight, shape[3])
    assert torch.equal(ours, distance)
    assert torch.equal(index, argmax)


def test_of_equal_candidates_the_lowest_index_decides(shim: HostShim) -> None:
    x, weight = torch.randint(2, (64, 256)).float(), torch.randint(2, (64, 256)).float()
    weight[:, 200:206] -= 9.0
    assert is_alone(shim, x, weight, math.inf, 1)
    _, argmax = reference.linf_distance_argmax(x, weight, 1)
    assert torch.equal(operators.linf_distance_argmax(shim, x, weight, 1)[1], argmax)


@pytest.mark.parametrize("kind", [TRAINED, RANDOM])
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_distances_and_gradients_err_no_more_than_without(
    shim: HostShim, kind: str, shape: tuple[int, int, int, int], p: float
) -> None:
    x, weight = operands(kind, shape)
    wide = (x.double(), weight.double())
    exact = reference.lp_distance(*wide, p, shape[3])
    distance = operators.lp_distance(shim, x, weight, p, shape[3])
    allowed = 2 * error_of(reference.lp_distance(x, weight, p, shape[3]), exact)
    assert error_of(distance, exact) <= allowed + 2.0**-21
    grad = torch.rand_like(distance)
    ours = gradients.lp_distance_backward(
        shim, grad, x, weight, distance, p, shape[3], [True, True]
    )
    right = reference.lp_distance_backward(grad.double(), *wide, distance.double(), p, shape[3])
    for value, other in zip(ours, right, strict=True):
        assert error_of(value, other) <= (p + 2) * 2.0**-20


def test_trained_weights_have_few_candidates_from_p_37_and_random_ones_many(
    shim: HostShim,
) -> None:
    for p in (37.0, 100.5, math.inf):
        assert is_alone(shim, *operands(TRAINED, SHAPES[0]), p, 1)
        assert not is_alone(shim, *operands(RANDOM, SHAPES[0]), p, 1)


@pytest.mark.parametrize("p", [37.0, 99.0])
def test_many_small_terms_count_until_all_of_them_are_nothing(shim: HostShim, p: float) -> None:
    bits = torch.linspace(10, 50, 64)
    x, weight = (2 ** (-bits / p))[:, None].repeat(1, 1024), torch.zeros(64, 1024)
    x[:, 40:] *= 0.5
    x[:, 7] = 1.0
    assert is_alone(shim, x, weight, p, 1)
    exact = reference.lp_distance(x.double(), weight.double(), p, 1)
    distance = operators.lp_distance(shim, x, weight, p, 1)
    assert error_of(distance, exact) <= FLOOR


def test_nan_is_a_candidate(shim: HostShim) -> None:
    x, weight = operands(TRAINED, SHAPES[0])
    x[3, 7], weight[5, 111] = math.nan, math.nan
    expected = torch.zeros(130, 70, dtype=torch.bool)
    expected[3], expected[:, 5] = True, True
    assert is_alone(shim, x, weight, math.inf, 1)
    distance, argmax = operators.linf_distance_argmax(shim, x, weight, 1)
    assert torch.equal(distance.isnan(), expected)
    assert torch.equal(operators.lp_distance(shim, x, weight, 37.0, 1).isnan(), expected)
    assert (argmax[3, :5] == 7).all()


def test_nan_distance_makes_nan_gradients(shim: HostShim) -> None:
    x, weight = operands(TRAINED, SHAPES[0])
    distance = operators.lp_distance(shim, x, weight, 37.0, 1)
    distance[1, 2] = math.nan
    grad_x, grad_w = gradients.lp_distance_backward(
        shim, torch.ones(130, 70), x, weight, distance, 37.0, 1, [True, True]
    )
    assert grad_x.isnan().all(1).nonzero().tolist() == [[1]]
    assert grad_w.isnan().all(1).nonzero().tolist() == [[2]]


@pytest.mark.parametrize("p", [37.0, 300.0])
def test_distances_of_any_size_are_right(shim: HostShim, p: float) -> None:
    size = 10.0 ** torch.linspace(-44, 37, 70)
    x, weight = size[:, None] * torch.randn(70, 256), torch.zeros(64, 256)
    x[:, 0] = 5 * size
    exact = reference.lp_distance(x.double(), weight.double(), p, 1)
    distance = operators.lp_distance(shim, x, weight, p, 1)
    assert torch.allclose(distance.double(), exact, rtol=1e-6, atol=2e-45)


def distances_are_right(shim: HostShim) -> bool:
    """In both orders, at infinity, of samples that differ in size."""
    x, weight = operands(TRAINED, SHAPES[0])
    x = x * torch.linspace(0.5, 1.5, 130)[:, None]
    weight[3, -1] = -30.0
    exact = reference.linf_distance(x, weight, 1)
    results = []
    for shim.is_ascending in (True, False):
        results.append(is_alone(shim, x, weight, math.inf, 1))
        results.append(torch.equal(operators.linf_distance(shim, x, weight, 1), exact))
    return all(results)


def gradients_are_right(shim: HostShim) -> bool:
    grad, (x, weight) = torch.rand(130, 70), operands(TRAINED, SHAPES[0])
    distance = reference.lp_distance(x, weight, 37.0, 1)
    right = reference.lp_distance_backward(grad, x, weight, distance, 37.0, 1)
    results = []
    for shim.is_ascending in (True, False):
        ours = gradients.lp_distance_backward(
            shim, grad, x, weight, distance, 37.0, 1, [True, True]
        )
        results += [torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, right, strict=True)]
    return all(results)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("above > below || above != above ? above : below", "above"),
        ("high = other_high > high ||", "high = other_high < high ||"),
        ("? deciding : deciding *", "? 1.2f * deciding : deciding *"),
        ("  sync_block();", ""),
        ("k < inputs && !(", "k < inputs - 1 && !("),
    ],
    ids=[
        "a bound of one side",
        "an end of some samples",
        "a bound that skips too much",
        "no barrier where samples are turned",
        "last input left out",
    ],
)
def test_faults_in_the_choice_of_candidates_are_found(
    compiled_shim: HostShim, tmp_path: Path, before: str, after: str
) -> None:
    kernels = of("candidates", "")
    shim = planted(compiled_shim, tmp_path, "candidates.cu", before, after, kernels)
    assert not distances_are_right(shim)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    sync_block();\n    add_outputs", "    add_outputs"),
        ("    sync_block();\n    const int64 row", "    const int64 row"),
        ("0xffffu", "0x7fffu"),
    ],
    ids=[
        "no barrier behind the samples",
        "no barrier before sums are added up",
        "an input left out",
    ],
)
def test_faults_in_the_backward_pass_are_found(
    compiled_shim: HostShim, tmp_path: Path, before: str, after: str
) -> None:
    source = "candidate_backward"
    kernels = of(source, f"<{plan_slope(36.0).degree}>")
    shim = planted(compiled_shim, tmp_path, f"{source}.cu", before, after, kernels)
    assert not gradients_are_right(shim)


def test_without_a_fault_nothing_is_found(compiled_shim: HostShim) -> None:
    compiled_shim.num_processors = 1
    assert distances_are_right(compiled_shim)
    assert gradients_are_right(compiled_shim)
