"""What a bare word in YAML means here, and the words that YAML 1.1 reads in a surprising way.

YAML 1.1 reads `010` as eight, `12:30:00` as 45000, `off` as false and `2e-5` as text. The last is
plainly a number and is read as one; the others are refused with both readings named.
"""

import math
import re

_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)", re.ASCII)
_DECIMAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", re.ASCII)
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?", re.ASCII)
_OTHER_BASE = re.compile(r"[-+]?0[xXoObB][0-9a-fA-F_]+", re.ASCII)
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+", re.ASCII)

_CONSTANTS: dict[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_SWITCHES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


class AmbiguousScalar(ValueError):
    """A bare word that does not mean what it looks like; the message says what to write."""


def read_bare_word(text: str) -> str | bool | int | float | None:
    """Read a scalar that stands without quotes.

    Raises:
        AmbiguousScalar: YAML and a reader of the file would read different things.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    _refuse_switch(text)
    _refuse_odd_number(text)
    if _WHOLE.fullmatch(text):
        return _whole(text)
    if _DECIMAL.fullmatch(text):
        return _decimal(text)
    return text


def _refuse_switch(text: str) -> None:
    if text.lower() in _SWITCHES and text in (text.lower(), text.capitalize(), text.upper()):
        meaning = _SWITCHES[text.lower()]
        raise AmbiguousScalar(
            f'YAML reads {text} as {meaning}; write {meaning}, or "{text}" if the word is meant'
        )


def _refuse_odd_number(text: str) -> None:
    quotes = f'or "{text}" in quotes if the text is meant'
    if _BASE_60.fullmatch(text):
        raise AmbiguousScalar(
            f"YAML reads {text} as a number in base 60 ({_from_base_60(text)}); write the number, "
            f"{quotes}"
        )
    if _OTHER_BASE.fullmatch(text) or _LEADING_ZERO.fullmatch(text):
        readings = _readings(text)
        if readings:
            which = " or ".join(readings)
            raise AmbiguousScalar(
                f"{text} can be read as {' and as '.join(readings)}; write {which}, {quotes}"
            )


def _readings(text: str) -> list[str]:
    """The numbers that YAML 1.1, YAML 1.2 and a person would see."""
    found = []
    for base in (0, 8, 10):
        try:
            found.append(str(int(text, base)))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def _from_base_60(text: str) -> str:
    value = 0.0
    for digits in text.lstrip("+-").replace("_", "").split(":"):
        value = value * 60 + float(digits)
    return f"{'-' if text[0] == '-' else ''}{value:.17g}"


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python reads at most 4300 digits
        raise AmbiguousScalar(f"a number of {len(text)} digits; no setting is that large") from None


def _decimal(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise AmbiguousScalar(
            f"{text[:40]} is too large for a floating-point number; write .inf for infinity"
        )
    return value
