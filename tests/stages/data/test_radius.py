import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.radius import largest_float_up_to, parse_fraction, parse_radius


@given(st.fractions(0, 1))
def test_largest_float_up_to_is_the_neighbour_below(value):
    found = largest_float_up_to(value)
    assert Fraction(found) <= value < Fraction(math.nextafter(found, 2.0))


@given(st.fractions(0, 2))
def test_a_radius_comes_back_from_its_text(value):
    assert parse_radius(str(value)) == value


@pytest.mark.parametrize("text", ["-1/2", "1/0", "0.5", "1e-1", " 1/2", "1/2/3", "nan", "", 0.5, 1])
def test_what_is_no_exact_radius_is_refused(text):
    with pytest.raises(ValueError, match="no fraction"):
        parse_radius(text)


@pytest.mark.parametrize(
    ("value", "fraction"),
    [("8/255", Fraction(8, 255)), ("1/10", Fraction(1, 10)), (0, Fraction(0)), ("1", Fraction(1))],
)
def test_a_fraction_is_kept_exactly(value: object, fraction: Fraction) -> None:
    assert parse_fraction(value) == fraction


def test_a_radius_in_l2_may_be_above_one() -> None:
    assert parse_fraction("79/50", "l2") == Fraction(79, 50)
    with pytest.raises(ValueError, match="negative"):
        parse_fraction("-1/2", "l2")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.1, r"0\.1 is rounded in binary; .*\(here: 1/10\)"),
        (0.0314, r"here: 157/5000, or 8/255"),
        (float("nan"), "nan is rounded in binary; write an exact fraction"),
        (float("inf"), "inf is rounded in binary"),
        ("0.1", "no fraction of two whole numbers"),
        ("1/0", "no fraction of two whole numbers"),
        ("a/b", "no fraction of two whole numbers"),
        ("9" * 5000, "no fraction of two whole numbers"),
        ("-1/3", "negative"),
        (8, "more than 1, the whole range of a pixel; did you mean 8/255"),
        ("300", "more than 1, the whole range of a pixel; write an exact fraction"),
        (None, "None is no fraction"),
        (True, "True is no fraction"),
    ],
)
def test_what_is_no_exact_fraction_of_a_pixel_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_fraction(value)
