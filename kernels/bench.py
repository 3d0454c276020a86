"""Times the operators beside torch.cdist and a composition of torch operations, in one run.

    python -m kernels.bench [--json FILE]

An element is one (sample, output, input) triple. Each time is the least of several runs, so that
other work on the machine distorts the ratios as little as possible.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from kernels import ops
from kernels.backend import available_cpu_kernels, cpu_kernels

SHAPES = ((128, 1024, 1024), (64, 5120, 512))
"""(B, I, O)."""
NORMS = (8.0, 37.5, 300.5, math.inf)
SECONDS_EACH = 1.0

Distance = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Timing:
    """One implementation at one shape and norm."""

    shape: tuple[int, int, int]
    p: float
    implementation: str
    forward_s: float
    both_s: float
    """Forward and backward."""

    def rates(self) -> tuple[float, float]:
        """G elements/s, forward and forward + backward."""
        giga_elements = math.prod(self.shape) / 1e9
        return giga_elements / self.forward_s, giga_elements / self.both_s


def main() -> None:
    """Print the table; write it as JSON too where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all timings here")
    path: Path | None = parser.parse_args().json
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}")
    print("Ratios are against torch.cdist on the same data.")
    print(f"{'B, I -> O':>18} {'p':>6} {'':>14} {'forward':>21} {'forward + backward':>21}")
    timings = []
    for shape in SHAPES:
        for p in NORMS:
            timings += _compare(shape, p)
    if path:
        rows = [asdict(timing) | {"p": str(timing.p)} for timing in timings]
        path.write_text(json.dumps(rows, indent=1) + "\n")


def _compare(shape: tuple[int, int, int], p: float) -> list[Timing]:
    timings = [_time_one("torch.cdist", _cdist, shape, p), _time_one("torch ops", _plain, shape, p)]
    for name in available_cpu_kernels():
        with cpu_kernels(name):
            timings.append(_time_one(name, _ours, shape, p))
    base = timings[0].rates()
    for timing in timings:
        forward, both = timing.rates()
        cells = [
            f"{f'{shape[0]}, {shape[1]} -> {shape[2]}':>18} {p:>6g} {timing.implementation:>14}"
        ]
        cells += [f"{forward:>9.3f} G/s {forward / base[0]:>6.1f}x"]
        cells += [f"{both:>9.3f} G/s {both / base[1]:>6.1f}x"]
        print(*cells, flush=True)
    return timings


def _cdist(x: Tensor, weight: Tensor, p: float) -> Tensor:
    return torch.cdist(x, weight, p=p)


def _plain(x: Tensor, weight: Tensor, p: float) -> Tensor:
    """What one would write without this package; it keeps every difference in memory."""
    size = (x[:, None] - weight).abs()
    largest = size.amax(2, keepdim=True)
    if math.isinf(p):
        return largest[:, :, 0]
    return largest[:, :, 0] * (size / largest).pow(p).sum(2).pow(1 / p)


def _ours(x: Tensor, weight: Tensor, p: float) -> Tensor:
    return ops.linf_distance(x, weight) if math.isinf(p) else ops.lp_distance(x, weight, p)


def _time_one(name: str, distance: Distance, shape: tuple[int, int, int], p: float) -> Timing:
    """Least time of a forward pass, and of a forward and backward pass, on random data."""
    batch, num_inputs, num_outputs = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, num_inputs, generator=generator)
    weight = torch.randn(num_outputs, num_inputs, generator=generator)
    grad = torch.randn(batch, num_outputs, generator=generator)
    with torch.no_grad():
        forward_s = _least_seconds(lambda: distance(x, weight, p))
    x.requires_grad_()
    weight.requires_grad_()
    both_s = _least_seconds(lambda: torch.autograd.grad(distance(x, weight, p), (x, weight), grad))
    return Timing(shape, p, name, forward_s, both_s)


def _least_seconds(run: Callable[[], object]) -> float:
    """At least two runs, and as many as fit into SECONDS_EACH."""
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < SECONDS_EACH:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
