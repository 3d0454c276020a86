import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.radius import largest_float_up_to, parse_radius


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
