"""Proved radii: exact fractions of a pixel, and the floats below them."""

import math
import re
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer


def largest_float_up_to(value: Fraction) -> float:
    """The largest float64 that is not above `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)


def parse_radius(value: Any) -> Fraction:
    """Read a fraction that is not negative; a float is refused, for it may have been rounded up.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]+(/[1-9][0-9]*)?", value):
        value = Fraction(value)
    if not isinstance(value, Fraction) or value < 0:
        raise ValueError(f"{value!r} is no fraction of whole numbers such as 969/8160")
    return value


Radius = Annotated[Fraction, BeforeValidator(parse_radius), PlainSerializer(str, return_type=str)]
"""A radius in pixels of [0, 1], as text a fraction of two whole numbers: `969/8160`."""
