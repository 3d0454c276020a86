from datetime import UTC, datetime
from fractions import Fraction

import pytest

from stages.report.formats import (
    accuracy_per_cent,
    eps_decimal,
    eps_text,
    per_cent,
    radius_text,
    rate_text,
    utc_text,
    value_text,
)
from stages.report.model import Share


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (2, 3, "66.66"),
        (7031, 10_000, "70.31"),
        (99_999, 100_000, "99.99"),
        (5, 5, "100.00"),
        (0, 7, "0.00"),
        (1, 3000, "0.03"),
    ],
)
def test_an_accuracy_is_rounded_down(count: int, total: int, text: str) -> None:
    assert per_cent(Share(count, total)) == text
    assert accuracy_per_cent(count / total) == text


def test_no_accuracy_in_hundredths_is_lost_on_the_way_through_a_float() -> None:
    for count in range(10_001):
        assert accuracy_per_cent(count / 10_000) == per_cent(Share(count, 10_000))


def test_a_radius_is_rounded_down() -> None:
    assert radius_text(0.12349999) == "0.1234"
    assert radius_text(0.0) == "0.0000"


@pytest.mark.parametrize(
    ("eps", "text", "decimal"),
    [
        (Fraction(1, 10), "1/10", "0.1"),
        (Fraction(8, 255), "8/255", "≈ 0.0314"),
        (Fraction(3, 255), "3/255", "≈ 0.0118"),
        (Fraction(51, 255), "1/5", "0.2"),
        (Fraction(9, 40), "9/40", "0.225"),
        (Fraction(0), "0", "0"),
    ],
)
def test_eps_is_written_as_people_write_it(eps: Fraction, text: str, decimal: str) -> None:
    assert eps_text(eps) == text
    assert Fraction(text) == eps
    assert eps_decimal(eps) == decimal


def test_rates_and_moments_have_their_unit() -> None:
    assert rate_text(70_000, 12.5, "images") == "5,600 images/s"
    assert rate_text(70_000, 0, "images") == ""
    assert utc_text(datetime(2026, 11, 21, 3, 4, 5, 600, tzinfo=UTC)) == "2026-11-21 03:04:05"


def test_a_setting_is_shown_as_in_yaml() -> None:
    assert value_text([8.0, None, True, "inf"]) == "[8.0, null, true, inf]"
