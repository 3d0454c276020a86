"""How figures are written for a reader; an accuracy is never rounded towards the better side."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal
from fractions import Fraction

from pipeline.monitor.formatting import bytes_text
from pipeline.store.provenance import Machine
from stages.data.radius import Norm
from stages.report.model import Result, Share


def per_cent(share: Share) -> str:
    """Two decimals, rounded down, e.g. `70.31`; 2 of 3 images is 66.66."""
    hundredths = share.count * 10_000 // share.total
    return f"{hundredths // 100}.{hundredths % 100:02}"


def accuracy_per_cent(accuracy: float) -> str:
    """An accuracy in [0, 1] as `per_cent` writes it."""
    exact = Decimal(repr(accuracy)) * 100
    return str(exact.quantize(Decimal("0.01"), rounding=ROUND_FLOOR))


def eps_text(eps: Fraction) -> str:
    """An exact radius as people write it: `1/10`, `8/255`, `3/255` (not 1/85)."""
    if eps.denominator > 10 and 255 % eps.denominator == 0:
        return f"{eps * 255}/255"
    return str(eps)


def eps_decimal(eps: Fraction) -> str:
    """The same as a decimal, e.g. `0.1`, and `≈ 0.0314` where four decimals are not exact."""
    rounded = f"{float(eps):.4f}".rstrip("0").rstrip(".")
    return rounded if Fraction(rounded) == eps else f"≈ {rounded}"


def radius_text(radius: float) -> str:
    """A proved radius in pixels of [0, 1], four decimals, rounded down."""
    return f"{math.floor(radius * 10_000) / 10_000:.4f}"


def figure_text(figure: float) -> str:
    """A column of a history: `8`, `42.7`, `∞`."""
    return "∞" if math.isinf(figure) else f"{figure:.4g}"


def norm_text(norm: Norm) -> str:
    """The norm of a ball: `ℓ∞`."""
    return {"linf": "\u2113\u221e", "l2": "\u21132"}[norm]


def ball_text(result: Result) -> str:
    """Every point of the ball in words: `every change of at most 1/10 (0.1) to each pixel`."""
    radius = f"{eps_text(result.eps)} ({eps_decimal(result.eps)})"
    if result.norm == "linf":
        return f"every change of at most {radius} to each pixel"
    return f"every change whose Euclidean length over all pixels is at most {radius}"


def eps_meaning(norm: Norm) -> str:
    """What a reader must know of eps in a norm."""
    if norm == "linf":
        return "The largest change allowed to each pixel, where black is 0 and white is 1."
    return "The largest Euclidean length of a change to all pixels, black being 0 and white 1."


def eps_axis(norm: Norm) -> str:
    """What stands at an axis of radii."""
    length = "" if norm == "linf" else "Euclidean length "
    return f"{length}in pixels of an image in [0, 1]"


def count_text(count: int) -> str:
    """A count with thousands apart: `10,000`."""
    return f"{count:,}"


def rate_text(count: int, seconds: float, unit: str) -> str:
    """Throughput: `4,210 images/s`; empty where no time was measured."""
    return f"{count / seconds:,.0f} {unit}/s" if seconds > 0 else ""


def shape_text(shape: Iterable[int]) -> str:
    """A shape: `28 × 28 × 1`."""
    return " × ".join(map(str, shape))  # noqa: RUF001  a multiplication sign is meant


def value_text(value: object) -> str:
    """A setting as YAML would show it: `true`, `null`, `8/255`, `[8, 32]`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item) for item in value) + "]"
    return str(value)


def utc_text(moment: datetime) -> str:
    """A moment to the second: `2026-11-21 03:04:05`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def machine_text(machine: Machine) -> str:
    """The computer in one line: `Intel Xeon, 2 cores, 8.4 GB memory, no GPU (bench, Linux 6.1)`."""
    gpus = " and ".join(machine.gpus) or "no GPU"
    memory = bytes_text(machine.memory_bytes)
    cores = f"{machine.num_cores} core{'s' if machine.num_cores != 1 else ''}"
    return f"{machine.cpu}, {cores}, {memory} memory, {gpus} ({machine.host}, {machine.system})"
