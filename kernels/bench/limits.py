"""What this machine's arithmetic allows: the kernels' own instructions on registers alone.

At p = infinity an element takes a difference and a maximum of sizes (two instructions where one
takes the maximum of absolute values, else three), at p = 8 a difference, two squarings and one
fused multiplication and addition: four.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from kernels.backend import available_cpu_kernels, cpu_kernels, load_cpu_kernels

MAXIMUM, EIGHTH_POWER = 0, 1
"""As in ``csrc/cpu/host/kernels.h``."""
COUNT = 100_000
SECONDS_EACH = 0.3


@dataclass(frozen=True)
class Limits:
    """G elements/s of all threads together."""

    maximum: float
    """p = infinity."""
    eighth_power: float
    """p = 8, forward."""


def measure() -> dict[str, Limits]:
    """Return the limits of every instruction set."""
    limits = {}
    for name in available_cpu_kernels():
        with cpu_kernels(name):
            limits[name] = Limits(_rate(MAXIMUM), _rate(EIGHTH_POWER))
    return limits


def _rate(kind: int) -> float:
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(num_threads) as pool:
        return sum(pool.map(_rate_of_thread, [kind] * num_threads))


def _rate_of_thread(kind: int) -> float:
    """The best rate of one thread while the others run the same; the call holds no Python lock."""
    library = load_cpu_kernels()
    assert library is not None
    best = 0.0
    end = time.perf_counter() + SECONDS_EACH
    while time.perf_counter() < end:
        start = time.perf_counter()
        elements = library.supnorm_run_arithmetic(kind, COUNT)
        best = max(best, elements / (time.perf_counter() - start) / 1e9)
    return best
