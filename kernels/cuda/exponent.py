"""Polynomials in the form that takes the fewest instructions, for the exponents of powers.

Horner's rule takes an instruction a coefficient. With s = top u + shift instead of u, top chosen so
that the leading coefficient is 1, and the right shift, it takes one or two fewer:

- a cubic without a square is ``y s + d``, y = s^2 + b;
- a quartic whose linear coefficient is half the product of those of s^2 and s^3 is
  ``(y + e s) y + d``, and a cubic equation in the shift makes any quartic such a one;
- higher degrees begin like the quartic of their five leading coefficients and go on by Horner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_BISECTIONS = 80


def short_form(coefficients: Sequence[float]) -> list[float]:
    """Return top, shift and the rest, in the order in which csrc/cuda/power.h uses them.

    Args:
        coefficients: c_1, c_2, ..., c_n of ``c_1 (u - 1) + c_2 (u - 1)^2 + ...``; n from 3, and
            the last has the sign it has in the logarithm: positive where n is odd.
    """
    degree = len(coefficients)
    sign = -1 if degree % 2 == 0 else 1
    top = (sign * coefficients[-1]) ** (1 / degree)
    monic = [0.0] + [sign * c / top**j for j, c in enumerate(coefficients, 1)]
    shift = _shift(monic)
    moved = _moved(monic, shift)
    if degree == 3:
        rest = [moved[1], moved[0]]
    else:
        half = moved[-3] / 2
        rest = [half, moved[-2], moved[-5] - half**2, *reversed(moved[:-5])]
    form = [top, shift - top, *rest]
    # The largest difference, u = 1, often makes most of a distance: here nothing may be rounded.
    form[-1] += sign * -evaluate(form, torch.ones(())).item()
    return form


def evaluate(form: Sequence[float], u: Tensor) -> Tensor:
    """Return the polynomial as a kernel computes it, in float32."""

    def fused(a: Tensor | float, b: Tensor, c: Tensor | float) -> Tensor:
        return (a * b.double() + c).float()

    top, shift, *rest = torch.tensor(form, dtype=torch.float32).tolist()
    s = fused(top, u, shift)
    y = fused(s.double(), s, rest[0])
    if len(rest) == 2:
        return fused(y.double(), s, rest[1])
    z = fused(fused(rest[1], s, y.double()).double(), y, rest[2])
    for c in rest[3:]:
        z = fused(z.double(), s, c)
    return z if len(rest) % 2 == 0 else -z


def _moved(c: Sequence[float], by: float) -> list[float]:
    """Coefficients of the same polynomial in v + by."""
    moved = list(c)
    for start in range(len(c) - 1):
        for j in range(len(c) - 2, start - 1, -1):
            moved[j] -= by * moved[j + 1]
    return moved


def _shift(c: Sequence[float]) -> float:
    """The shift that gives a monic polynomial the form that its degree needs."""
    n = len(c) - 1
    if n == 3:
        return c[2] / 3

    def surplus(by: float) -> float:
        cube = c[-2] - n * by
        square = c[-3] - (n - 1) * c[-2] * by + math.comb(n, 2) * by**2
        linear = c[-4] - (n - 2) * c[-3] * by + math.comb(n - 1, 2) * c[-2] * by**2
        return linear - math.comb(n, 3) * by**3 - cube * square / 2

    # Its cubic term is positive, so it has a root, and this far out no other.
    far = 8 * (1 + max(abs(v) for v in c))
    low, high = -far, far
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) < 0 else (low, middle)
    return high
