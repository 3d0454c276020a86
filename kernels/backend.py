"""Which implementation computes the operators on each device."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Backend:
    """What serves each device."""

    cpu: str
    """``avx512``, ``avx2``, ``portable`` (compiled) or ``reference`` (plain PyTorch)."""
    cuda: str
    """``reference`` (plain PyTorch)."""


def backend() -> Backend:
    """Return which implementation serves each device on this machine."""
    return Backend(cpu="reference", cuda="reference")
