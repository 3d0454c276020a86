import math

import pytest

from pipeline.spec.scalars import AmbiguousScalar, read_bare_word


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-17", -17),
        ("60_000", 60000),
        ("0", 0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("2e-5", 2e-5),
        ("1E3", 1000.0),
        ("-1.5e+3", -1500.0),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("8/255", "8/255"),
        ("fashion_mnist", "fashion_mnist"),
        ("2020-01-31", "2020-01-31"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("y", "y"),
        ("3.1.4", "3.1.4"),
        ("٣", "٣"),
    ],
)
def test_a_bare_word_is_read_as_what_it_plainly_is(text: str, value: object) -> None:
    found = read_bare_word(text)
    assert (found, type(found)) == (value, type(value))


def test_nan_is_read_as_nan() -> None:
    assert math.isnan(read_bare_word(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("010", '010 can be read as 8 and as 10; write 8 or 10, or "010" in quotes'),
        ("08", "08 can be read as 8; write 8"),
        ("0x1F", "0x1F can be read as 31"),
        ("0b11", "0b11 can be read as 3"),
        ("0o17", "0o17 can be read as 15"),
        ("-010", "-010 can be read as -8 and as -10"),
        ("12:30:00", 'base 60 (45000); write the number, or "12:30:00" in quotes'),
        ("1:30", "base 60 (90)"),
        ("-1:30.5", "base 60 (-90.5)"),
        ("off", "YAML reads off as false; write false"),
        ("ON", "YAML reads ON as true"),
        ("Yes", "YAML reads Yes as true"),
        ("no", "YAML reads no as false"),
        ("1e999", "too large for a floating-point number"),
        ("9" * 5000, "a number of 5000 digits"),
    ],
)
def test_a_word_that_yaml_reads_in_a_surprising_way_is_refused(text: str, message: str) -> None:
    with pytest.raises(AmbiguousScalar) as trap:
        read_bare_word(text)
    assert message in str(trap.value)
