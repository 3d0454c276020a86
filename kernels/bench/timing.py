"""What is timed beside each other, and how long each takes."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels import ops, reference
from kernels.backend import available_cpu_kernels, cpu_kernels, every_input
from kernels.bench.cases import Case

TURNS = 4
SECONDS_A_TURN = 0.2
SECONDS_EACH = 5.0
"""After these, what is slow is not timed another turn."""
EVERY_INPUT, SKIPPING, SKIPPING_AVX2 = "every input", "skipping", "skipping, avx2"

Distance = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Implementation:
    """Distances, and the setting they are computed in."""

    name: str
    distance: Distance
    setting: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Timing:
    """One implementation of one case."""

    case: str
    p: float
    implementation: str
    forward: float
    """G elements/s."""
    both: float
    """Forward and backward, G elements/s."""


def time_random(case: Case) -> list[Timing]:
    """Time torch.cdist, torch operations, every set of kernels, and the best at every input."""
    ours_by_kernels = [
        Implementation(name, ours, partial(cpu_kernels, name)) for name in available_cpu_kernels()
    ]
    return _time(case, [*OTHERS, *ours_by_kernels, OURS_AT_EVERY_INPUT])


def time_trained(case: Case) -> list[Timing]:
    """Time torch.cdist, the kernels in use looking at every input, and skipping with two sets."""
    implementations = [
        OTHERS[0],
        OURS_AT_EVERY_INPUT,
        Implementation(SKIPPING, ours),
    ]
    if "avx2" in available_cpu_kernels():
        avx2 = Implementation(SKIPPING_AVX2, ours, partial(cpu_kernels, "avx2"))
        implementations.append(avx2)
    return _time(case, implementations)


def cdist(x: Tensor, weight: Tensor, p: float) -> Tensor:
    """Torch's own distances."""
    return torch.cdist(x, weight, p=p)


def composed(x: Tensor, weight: Tensor, p: float) -> Tensor:
    """What one would write without this package; it keeps every difference in memory."""
    size = (x[:, None] - weight).abs()
    largest = size.amax(2, keepdim=True)
    if math.isinf(p):
        return largest[:, :, 0]
    return largest[:, :, 0] * (size / largest).pow(p).sum(2).pow(1 / p)


def ours(x: Tensor, weight: Tensor, p: float) -> Tensor:
    """The operators of this package, p = infinity among them."""
    return ops.linf_distance(x, weight) if math.isinf(p) else ops.lp_distance(x, weight, p)


class _Reference(torch.autograd.Function):
    """The plain formulas that serve where there are no kernels."""

    @staticmethod
    def forward(ctx, x, weight, p):  # type: ignore[no-untyped-def]
        """Keep what the operators' autograd keeps."""
        ctx.p = p
        if math.isinf(p):
            distance, kept = reference.linf_distance_argmax(x, weight, 1)
        else:
            distance = kept = reference.lp_distance(x, weight, p, 1)
        ctx.save_for_backward(x, weight, kept)
        return distance

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        """Both gradients."""
        x, weight, kept = ctx.saved_tensors
        if math.isinf(ctx.p):
            return *reference.linf_distance_backward(grad, x, weight, kept, 1), None
        return *reference.lp_distance_backward(grad, x, weight, kept, ctx.p, 1), None


OTHERS = (
    Implementation("torch.cdist", cdist),
    Implementation("torch operations", composed),
    Implementation("reference", _Reference.apply),
)
OURS_AT_EVERY_INPUT = Implementation(EVERY_INPUT, ours, every_input)


def _time(case: Case, implementations: Sequence[Implementation]) -> list[Timing]:
    grad = torch.randn(case.x.shape[0], case.weight.shape[0])
    x, weight = case.x.detach().requires_grad_(), case.weight.detach().requires_grad_()

    def forward(distance: Distance) -> None:
        with torch.no_grad():
            distance(case.x, case.weight, case.p)

    def both(distance: Distance) -> None:
        torch.autograd.grad(distance(x, weight, case.p), (x, weight), grad)

    giga_elements = case.num_elements / 1e9
    rates = [
        [giga_elements / least for least in _least_seconds(run, implementations)]
        for run in (forward, both)
    ]
    names = [implementation.name for implementation in implementations]
    return [Timing(case.name, case.p, *rows) for rows in zip(names, *rates, strict=True)]


def _least_seconds(
    run: Callable[[Distance], None], implementations: Sequence[Implementation]
) -> list[float]:
    """The least that each took, in turns: what slows the machine for seconds slows all of them."""
    seconds: list[list[float]] = [[] for _ in implementations]
    for _ in range(TURNS):
        for own, implementation in zip(seconds, implementations, strict=True):
            if sum(own) > SECONDS_EACH:
                continue
            with implementation.setting():
                end = time.perf_counter() + SECONDS_A_TURN
                while not own or time.perf_counter() < end:
                    start = time.perf_counter()
                    run(implementation.distance)
                    own.append(time.perf_counter() - start)
    return [min(own) for own in seconds]
