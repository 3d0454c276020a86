"""What a bare word in a spec is read as, and words that are no value of any setting."""

import math
import time

import pytest

from pipeline.spec.yaml_document import Document, read_document


def read(text: str) -> Document:
    return read_document(f"word: {text}".encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-17", -17),
        ("+17", 17),
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
        ("-.INF", -math.inf),
        ("8/255", "8/255"),
        ("fashion_mnist", "fashion_mnist"),
        ("2020-01-31", "2020-01-31"),
        ("e5", "e5"),
        ("1e", "1e"),
        ("y", "y"),
        ("3.1.4", "3.1.4"),
        ("٣", "٣"),
        ('"3"', "3"),
        ("'true'", "true"),
        ("|-\n  3", "3"),
    ],
)
def test_a_bare_word_is_read_as_what_it_plainly_is(text: str, value: object) -> None:
    document = read(text)
    assert document.mistakes == []
    found = document.value["word"]
    assert (found, type(found)) == (value, type(value))


def test_nan_is_read_as_nan() -> None:
    assert math.isnan(read(".nan").value["word"])


@pytest.mark.parametrize(
    "text",
    [
        *("010", "08", "-010", "0x1F", "0b11", "0o17", "0_1", "_1", "1_", "1_0.5"),
        *("12:30:00", "1:30", "-1:30.5", "off", "ON", "Yes", "no", "+.nan"),
    ],
)
def test_a_word_that_only_older_yaml_reads_as_something_else_is_text(text: str) -> None:
    document = read(text)
    assert (document.value["word"], document.mistakes) == (text, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1e999", "1e999 is too large for a floating-point number; write .inf for infinity"),
        ("-1e999", "-1e999 is too large"),
        ("9" * 5000, "a number of 5000 digits; no setting is that large"),
    ],
)
def test_a_number_that_no_computer_holds_is_refused(text: str, message: str) -> None:
    (mistake,) = read(text).mistakes
    assert str(mistake).startswith(f"x.yaml:1: word: {message}")


@pytest.mark.parametrize("unit", ["9", "1_", "0.", "1.9", "a"])
def test_the_time_to_read_a_huge_word_grows_in_proportion(unit: str) -> None:
    start = time.process_time()
    read(unit * (10**6 // len(unit)))
    assert time.process_time() - start < 5
