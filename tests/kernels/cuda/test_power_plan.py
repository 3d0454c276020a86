import math

import pytest
import torch

from kernels.cuda.exponent import evaluate
from kernels.cuda.power_plan import DEGREES, LOGARITHM, PowerPlan, plan_slope, plan_sum

EXPONENTS = (2.0, 9.1, 17.5, 20.0, 33.3, 41.0, 64.0, 99.9, 199.0, 500.0, 1000.0)


def power(plan: PowerPlan, u: torch.Tensor) -> torch.Tensor:
    """The plan's polynomial without rounding, and 2 to it."""
    top, shift, *rest = plan.values[1 : plan.degree + 2]
    s = top * u + shift
    y = s * s + rest[0]
    z = y * s + rest[1] if plan.degree == 3 else (y + rest[1] * s) * y + rest[2]
    for c in rest[3:]:
        z = z * s + c
    return torch.exp2(z if plan.degree % 2 == 1 else -z)


@pytest.mark.parametrize("p", EXPONENTS)
def test_roots_of_sums_of_any_terms_err_by_less_than_float32_does(p: float) -> None:
    plan = plan_sum(p)
    if plan.degree == LOGARITHM:
        return
    u = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    exact = u**p
    for count in (1, 100, 2**14):  # terms of this size, beside one of 1
        change = ((1 + count * power(plan, u)) / (1 + count * exact)) ** (1 / p) - 1
        assert change.abs().max() <= 2.0**-24


@pytest.mark.parametrize("q", EXPONENTS)
def test_slopes_are_as_good_as_float32_makes_them_and_small_ones_stay_small(q: float) -> None:
    plan = plan_slope(q)
    if plan.degree == LOGARITHM:
        return
    u = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    exact, ours = u**q, power(plan, u)
    counts = exact >= 2.0**-12
    error = (ours[counts] / exact[counts] - 1).abs().max()
    assert error <= 8 * q * 2.0**-24
    assert (ours[exact < 2.0**-40] <= 2.0**-37).all()


def test_the_larger_the_power_the_shorter_the_polynomial() -> None:
    degrees = [plan_sum(p).degree for p in (15, 20, 30, 50, 100, 300)]
    assert degrees == sorted(degrees, reverse=True)
    assert set(degrees) == set(DEGREES)
    assert plan_sum(9.0).degree == LOGARITHM


def test_what_is_left_out_of_a_sum_changes_its_root_by_less_than_rounding_does() -> None:
    for p in EXPONENTS:
        kept = plan_sum(p).values[-1]
        assert 2**14 * kept**p / p <= 2.0**-25


def test_slopes_that_are_left_out_are_below_adams_epsilon() -> None:
    for q in EXPONENTS:
        assert plan_slope(q).values[-1] ** q <= 2.0**-40


@pytest.mark.parametrize("p", [14.2, 18.5, 30.3, 41.0, 66.0, 99.9, 151.0, 199.0, 500.0, 1000.0])
def test_rounding_in_the_exponent_stays_below_that_of_four_factors_in_the_distance(
    p: float,
) -> None:
    plan = plan_sum(p)
    form = plan.values[1 : plan.degree + 2]
    u = torch.linspace(2 ** (-14 / p), 1, 100_001)
    error = (evaluate(form, u).double() - p * u.double().log2()) * math.log(2) / p
    assert error.abs().max() <= 4 * 2.0**-24
    # The largest term, which may be all of the distance, is not rounded but by its last bit.
    assert error[-1].abs() <= 2.0**-24
