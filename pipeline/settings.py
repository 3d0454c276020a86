"""What a stage's `config.py` is built from: frozen pydantic models, read from YAML, no torch."""

from fractions import Fraction
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer


class Settings(BaseModel):
    """A frozen group of settings; a field's docstring gives meaning, unit and trade-off.

    A validator of a subclass raises ValueError with a message for the user; `pipeline check`
    prints it beside the file and line of the setting.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
    )


class Kinds:
    """Says which kinds of stage an input may name: `network: Annotated[str, Kinds("train")]`."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds


class Inputs(Settings):
    """The artifacts that a stage reads: one field an input, its value the name of a stage.

    A field is annotated with the `Kinds` that fit; a field `... | None = None` may be left out.
    """

    @classmethod
    def kinds_that_fit(cls, name: str) -> tuple[str, ...] | None:
        """The kinds of stage that input `name` may come from; None: any kind."""
        field = cls.model_fields[name]
        return _declared_kinds((*field.metadata, field.annotation))


class StageSettings(Settings):
    """Settings of one stage; `stages/<kind>/config.py` calls its subclass `Settings`."""

    code: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")
    """Packages, besides the stage's own, whose sources decide the result."""

    max_ranks: ClassVar[int | None] = None
    """The most processes that can share this stage; None: as many as the machine offers."""

    gathers: ClassVar[bool] = False
    """True for a stage that is made once from all members of a sweep (`pipeline.matrix`)."""

    how_only: ClassVar[tuple[str, ...]] = ()
    """Settings that decide how fast a result comes, not what it is: changing one neither makes an
    artifact stale nor keeps an earlier try from being continued."""

    inputs: Inputs = Inputs()


def parse_fraction(value: Any) -> Fraction:
    """Read an exact fraction in [0, 1] such as "8/255"; a float is refused, for 0.1 is not 1/10.

    Raises:
        ValueError: the value is no fraction of two whole numbers, or lies outside [0, 1].
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
    if fraction > 1:
        guess = f"; did you mean {fraction}/255?" if fraction <= 255 else f"; {example}"
        raise ValueError(f"{value} is more than 1, the whole range of a pixel{guess}")
    return fraction


ExactFraction = Annotated[
    Fraction, BeforeValidator(parse_fraction), PlainSerializer(str, return_type=str)
]
"""A radius in pixels of an image in [0, 1], kept exactly: `8/255`."""


def _declared_kinds(annotations: tuple[Any, ...]) -> tuple[str, ...] | None:
    for annotation in annotations:
        if isinstance(annotation, Kinds):
            return annotation.kinds
        declared = _declared_kinds(get_args(annotation))
        if declared is not None:
            return declared
    return None


def _exact_twin(value: float) -> str:
    """Name the fraction that the decimal digits spell, and the multiple of 1/255 beside it."""
    if not 0 <= value <= 1:
        return ""
    spelt = Fraction(str(value))
    in_grey_levels = Fraction(round(value * 255), 255)
    is_near = in_grey_levels != spelt and abs(in_grey_levels - spelt) <= spelt / 100
    return f" (here: {spelt}{f', or {in_grey_levels}' if is_near else ''})"
