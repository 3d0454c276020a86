"""Proved radii: exact fractions of a pixel, and the floats below them."""

import math
import re
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

Norm = Literal["linf", "l2"]
"""Of a ball of perturbations: every pixel within eps, or their Euclidean length."""


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


def parse_fraction(value: Any, norm: Norm = "linf") -> Fraction:
    """Read an exact fraction such as "8/255"; a float is refused, for 0.1 is not 1/10.

    Args:
        value: as a spec or a file has it.
        norm: of the ball whose radius it is.

    Raises:
        ValueError: the value is no fraction of two whole numbers, or is negative, or is more than
            a pixel's whole range where the norm is that of single pixels.
    """
    if isinstance(value, Fraction):
        return value
    example = "write an exact fraction such as 8/255 or 1/10"
    if isinstance(value, float):
        raise ValueError(f"{value} is rounded in binary; {example}{_exact_twin(value)}")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no fraction; {example}")
    numerator, _, denominator = str(value).partition("/")
    try:
        fraction = Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is no fraction of two whole numbers; {example}") from None
    if fraction < 0:
        raise ValueError(f"{value} is negative; {example}")
    if fraction > 1 and norm == "linf":
        guess = f"; did you mean {fraction}/255?" if fraction <= 255 else f"; {example}"
        raise ValueError(f"{value} is more than 1, the whole range of a pixel{guess}")
    return fraction


def _parse_in_model(value: Any, info: ValidationInfo) -> Fraction:
    return parse_fraction(value, info.data.get("norm", "linf"))


ExactFraction = Annotated[
    Fraction, BeforeValidator(_parse_in_model), PlainSerializer(str, return_type=str)
]
"""A radius in pixels of an image in [0, 1], kept exactly: `8/255`.

At most 1, unless the model has a field `norm` above this one that says `l2`: 79/50 is customary.
"""


def _exact_twin(value: float) -> str:
    """Name the fraction that the decimal digits spell, and the multiple of 1/255 beside it."""
    if not 0 <= value <= 1:
        return ""
    spelt = Fraction(str(value))
    in_grey_levels = Fraction(round(value * 255), 255)
    is_near = in_grey_levels != spelt and abs(in_grey_levels - spelt) <= spelt / 100
    return f" (here: {spelt}{f', or {in_grey_levels}' if is_near else ''})"
