"""What is timed beside each other, and how long each takes."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import ops, reference
from kernels.backend import available_cpu_kernels, cpu_kernels, every_input
from kernels.bench.cases import Case

SECONDS_EACH = 0.7
EVERY_INPUT, SKIPPING = "every input", "skipping"

Distance = Callable[[Tensor, Tensor, float], Tensor]


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
    """Time torch.cdist, a composition of torch operations, and every set of kernels."""
    timings = [_time(name, case, distance) for name, distance in OTHERS.items()]
    for name in available_cpu_kernels():
        with cpu_kernels(name):
            timings.append(_time(name, case, ours))
    return timings


def time_trained(case: Case) -> list[Timing]:
    """Time torch.cdist, the kernels in use looking at every input, and the same with skipping."""
    timings = [_time("torch.cdist", case, cdist)]
    with every_input():
        timings.append(_time(EVERY_INPUT, case, ours))
    timings.append(_time(SKIPPING, case, ours))
    return timings


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


OTHERS: dict[str, Distance] = {
    "torch.cdist": cdist,
    "torch operations": composed,
    "reference": _Reference.apply,
}


def _time(name: str, case: Case, distance: Distance) -> Timing:
    grad = torch.randn(case.x.shape[0], case.weight.shape[0])
    giga_elements = case.num_elements / 1e9
    with torch.no_grad():
        forward_s = _least_seconds(lambda: distance(case.x, case.weight, case.p))
    x, weight = case.x.detach().requires_grad_(), case.weight.detach().requires_grad_()
    both_s = _least_seconds(
        lambda: torch.autograd.grad(distance(x, weight, case.p), (x, weight), grad)
    )
    return Timing(case.name, case.p, name, giga_elements / forward_s, giga_elements / both_s)


def _least_seconds(run: Callable[[], object]) -> float:
    """The least of as many runs as fit into SECONDS_EACH: what disturbs one run is not timed."""
    seconds: list[float] = []
    while sum(seconds) < SECONDS_EACH:
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
