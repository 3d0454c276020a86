"""How the kernels raise u = |x - w| / largest to a real power: chosen once a p, in float64.

``u^q = 2^(q log2 u)``, and a polynomial in u stands for the exponent. Only where the power matters
does it have to be right; the larger q is, the closer to u = 1 that is, and the lower its degree.
Small q would take too high a one: they ask the GPU's special-function unit for the logarithm.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cuda.exponent import short_form

DEGREES = (3, 4, 5, 6, 8, 10)
"""Those of the polynomials that the kernels are compiled for."""
LOGARITHM = 0
"""Stands for a logarithm in place of a polynomial."""

# The polynomial may err as much as the rounding of u to float32 makes of the power.
_ROUNDING = 2.0**-24
_POINTS = 200

# All terms left out of a sum of 2^14 change its root by less than 2^-25 of it.
_LEFT_OUT_BITS = 25
# Bounds are rounded up by no more than this; thresholds are lowered by it.
_BOUND_ROUNDING = 1 - 2.0**-20

# A sum has at most 2^14 terms that matter as much as its largest; smaller ones matter less.
_SUM_STRICT_BITS = 14
_SUM_BITS = 40
# Each slope counts for itself, but those below 2^-40 only have to be as small, and are left out:
# Adam's own epsilon, 1e-10, is a hundred times as large.
_SLOPE_BITS = 40


@dataclass(frozen=True)
class PowerPlan:
    """What a kernel needs to know of a power."""

    degree: int
    """Of `DEGREES`, or `LOGARITHM`: which instantiation."""
    values: tuple[float, ...]
    """What the kernel reads from device memory: q; the polynomial's `short_form` and zeros, 11 in
    all, or a 1; p; the share of its deciding difference below which an input is left out."""


@functools.lru_cache(maxsize=256)
def plan_sum(q: float) -> PowerPlan:
    """Return the plan for terms of a sum whose largest term is 1."""
    left_out_bits = _LEFT_OUT_BITS + _SUM_STRICT_BITS - math.log2(q)
    return _plan(q, q, _SUM_BITS, left_out_bits, is_sum=True)


@functools.lru_cache(maxsize=256)
def plan_slope(q: float) -> PowerPlan:
    """Return the plan for powers that each count for themselves."""
    return _plan(q, q + 1, _SLOPE_BITS, _SLOPE_BITS, is_sum=False)


def _plan(q: float, p: float, bits: float, left_out_bits: float, is_sum: bool) -> PowerPlan:
    coefficients = _polynomial(q, bits, is_sum)
    form = short_form(coefficients) if coefficients else [1.0]
    padding = [0.0] * (DEGREES[-1] + 1 - len(form))
    kept = 2 ** (-max(left_out_bits, 1.0) / q) * _BOUND_ROUNDING
    return PowerPlan(len(coefficients), (q, *form, *padding, p, kept))


def _polynomial(q: float, bits: float, is_sum: bool) -> list[float]:
    """Coefficients of u - 1, (u - 1)^2, ...; none where the degree would be too high."""
    lowest = 2 ** (-bits / q) - 1
    angles = (torch.arange(_POINTS, dtype=torch.float64) + 0.5) * (math.pi / _POINTS)
    s = lowest * (1 - angles.cos()) / 2
    exact = q * torch.log1p(s) / math.log(2)
    allowed = _allowed(-exact, q, is_sum)
    for degree in DEGREES:
        powers = s[:, None] ** torch.arange(1, degree + 1, dtype=torch.float64)
        scaled = powers / allowed[:, None]
        size = scaled.norm(dim=0)
        c = torch.linalg.lstsq(scaled / size, exact / allowed, driver="gelsd").solution / size
        is_right = bool(((powers @ c - exact).abs() <= allowed).all())
        if is_right and _vanishes(c, lowest, bits):
            return [float(v) for v in c]
    return []


def _allowed(bits: Tensor, q: float, is_sum: bool) -> Tensor:
    """Error allowed in the exponent of a power 2^-bits."""
    error = q * _ROUNDING / math.log(2)
    if is_sum:
        return error * torch.exp2((bits - _SUM_STRICT_BITS).clamp(min=0))
    # A slope below 2^-24 may be off by a tenth, to be of use to an optimiser that divides by it.
    return (error * torch.exp2(bits / 4)).clamp(max=max(0.1, error))


def _vanishes(c: Tensor, lowest: float, bits: float) -> bool:
    """Whether powers too small to matter stay so."""
    s = torch.linspace(-1, lowest, _POINTS, dtype=torch.float64)
    exponent = sum(c[j] * s ** (j + 1) for j in range(len(c)))
    return bool((torch.as_tensor(exponent) <= 2 - bits).all())


_plans: dict[tuple[PowerPlan, torch.device], Tensor] = {}
_MOST_PLANS = 64
# CUDA graphs keep addresses only, and may be replayed as long as the process lives.
_captured: list[Tensor] = []


def on_device(plan: PowerPlan, x: Tensor) -> Tensor:
    """Return the plan's numbers where x lies; a plan used before is there already."""
    key = (plan, x.device)
    if key not in _plans:
        if len(_plans) >= _MOST_PLANS:
            del _plans[next(iter(_plans))]
        _plans[key] = torch.tensor(plan.values).to(x.device, non_blocking=True)
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        _captured.append(_plans[key])
    return _plans[key]
