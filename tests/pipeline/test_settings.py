from fractions import Fraction
from typing import Annotated

import pytest

from pipeline.settings import Inputs, Kinds, parse_fraction


@pytest.mark.parametrize(
    ("value", "fraction"),
    [("8/255", Fraction(8, 255)), ("1/10", Fraction(1, 10)), (0, Fraction(0)), ("1", Fraction(1))],
)
def test_a_fraction_is_kept_exactly(value: object, fraction: Fraction) -> None:
    assert parse_fraction(value) == fraction


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


def test_an_input_declares_the_kinds_that_fit() -> None:
    class Some(Inputs):
        one: Annotated[str, Kinds("shard")]
        two: Annotated[str, Kinds("train", "prune")] | None = None
        three: Annotated[str | None, Kinds("certify")] = None
        four: str

    fit = {name: Some.kinds_that_fit(name) for name in Some.model_fields}
    assert fit == {
        "one": ("shard",),
        "two": ("train", "prune"),
        "three": ("certify",),
        "four": None,
    }
