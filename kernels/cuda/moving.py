"""An exponent that moves while a captured CUDA graph is replayed.

A graph keeps the addresses that its kernels were given, so the numbers of the power stay where they
are and change their values:

    exponent = MovingExponent(8.5, device)
    with exponent, torch.cuda.graph(graph):
        step(exponent.p)
    ...
    if not exponent.move(p):    # other kernels are needed: capture again
        ...
    graph.replay()

`kernels.cuda.captured` does all that for a training step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.cuda import operators
from kernels.cuda.candidates import SMALLEST_P
from kernels.cuda.power_plan import PowerPlan, hold_numbers, plan_slope, plan_sum


class MovingExponent:
    """The numbers of one exponent p, at fixed places of a device's memory.

    Args:
        p: Any p of `lp_distance` but even numbers to 32: those have kernels of their own, which a
            captured graph cannot leave.
        device: Where the layers compute.

    Raises:
        ValueError: An even p to 32, or infinity.
    """

    def __init__(self, p: float, device: torch.device) -> None:
        if is_fixed(p):
            raise ValueError(f"MovingExponent: p is {p:g}, whose kernels serve this p alone.")
        self.p = p
        sums, slopes = _plans(p)
        self._sums = torch.tensor(sums.values, device=device)
        self._slopes = torch.tensor(slopes.values, device=device)

    def move(self, p: float) -> bool:
        """Set p for launches and replays from now on, in the order of the current stream.

        Returns:
            Whether graphs captured before can be replayed; if not, nothing has changed but p, and
            the step is to be captured again with a new exponent.
        """
        fits = kernels_of(p) == kernels_of(self.p)
        self.p = p
        if fits:
            sums, slopes = _plans(p)
            self._sums.copy_(_pinned(sums, self._sums), non_blocking=True)
            self._slopes.copy_(_pinned(slopes, self._slopes), non_blocking=True)
        return fits

    def numbers(self, plan: PowerPlan) -> Tensor:
        """Return the numbers of one of this exponent's plans.

        Raises:
            ValueError: It is another exponent's.
        """
        sums, slopes = _plans(self.p)
        if plan == sums:
            return self._sums
        if plan == slopes:
            return self._slopes
        raise ValueError(f"lp_distance: p is not {self.p:g}, the exponent that may move here.")

    def __enter__(self) -> MovingExponent:
        hold_numbers(self.numbers)
        return self

    def __exit__(self, *_: object) -> None:
        hold_numbers(None)


def kernels_of(p: float) -> tuple[float, ...]:
    """Return what decides which kernels a step launches: the same for all p that they serve."""
    if is_fixed(p):
        return (p,)
    sums, slopes = _plans(p)
    return sums.degree, slopes.degree, p >= SMALLEST_P


def is_fixed(p: float) -> bool:
    """Return whether the kernels of p serve no other."""
    return math.isinf(p) or operators.is_even_power(p)


def _plans(p: float) -> tuple[PowerPlan, PowerPlan]:
    return plan_sum(p), plan_slope(p - 1)


def _pinned(plan: PowerPlan, like: Tensor) -> Tensor:
    """Memory that a copy can be started from without waiting."""
    values = torch.tensor(plan.values)
    return values.pin_memory() if like.is_cuda else values
