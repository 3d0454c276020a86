"""What a stage's `config.py` is built from: frozen pydantic models, read from YAML, free of torch."""

from fractions import Fraction
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer


class Settings(BaseModel):
    """A frozen group of settings; a field's docstring gives meaning, unit and trade-off."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Inputs(Settings):
    """The artifacts that a stage reads: one field an input, its value the name of a stage."""


class StageSettings(Settings):
    """Settings of one stage; `stages/<kind>/config.py` calls its subclass `Settings`."""

    code: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")
    """Packages, besides the stage's own, whose sources decide the result."""

    inputs: Inputs


def parse_fraction(value: Any) -> Fraction:
    """Read an exact, non-negative fraction such as "8/255"; a float is refused, for 0.1 is not 1/10.

    Raises:
        ValueError: the text is no fraction of two whole numbers, or is negative.
    """
    if isinstance(value, Fraction):
        return value
    example = "write an exact fraction such as 8/255 or 1/10"
    if isinstance(value, float):
        nearest = Fraction(str(value)).limit_denominator(255 * 1000)
        raise ValueError(f"{value} is rounded in binary; {example} (here: {nearest})")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ValueError(f"{value!r} is no fraction; {example}")
    numerator, _, denominator = str(value).partition("/")
    try:
        fraction = Fraction(int(numerator), int(denominator or 1))
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{value!r} is no fraction of two whole numbers; {example}") from None
    if fraction < 0:
        raise ValueError(f"{value!r} is negative; {example}")
    return fraction


ExactFraction = Annotated[
    Fraction, BeforeValidator(parse_fraction), PlainSerializer(str, return_type=str)
]
"""A radius in pixels of an image in [0, 1], kept exactly: `8/255`."""
