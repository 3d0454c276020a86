"""Every instantiation that the operators can ask for: what is tested and held to budgets."""

from __future__ import annotations

from collections.abc import Iterable

from kernels.cuda.kernel import Kernel
from kernels.cuda.operators import LARGEST_EVEN, even_kernel
from kernels.cuda.power_plan import DEGREES, LOGARITHM
from kernels.cuda.problem import LARGE, LARGE_BOXES, MIDDLE, SMALL, SMALL_BOXES

EVEN = tuple(range(2, LARGEST_EVEN + 1, 2))
VECTORS = (4, 1)


def all_kernels(even: Iterable[int] = EVEN) -> list[Kernel]:
    """Return all kernels; of the multiplication chains those for the given exponents."""
    exponents = tuple(even)
    return [
        *_shared(),
        *(k for v in VECTORS for k in (*_forward(v, exponents), *_backward(v, exponents))),
    ]


def _shared() -> Iterable[Kernel]:
    """Those that do not depend on how rows are aligned."""
    yield Kernel("adam", "decayed_adam")
    yield Kernel("linf_distance", "linf_argmax")
    yield Kernel("linf_distance_bounds", "linf_distance_bounds_finish")
    yield Kernel("lp_distance", "lp_distance_finish")
    yield Kernel("lp_distance", "lp_distance_scale")
    for name in ("largest", "factors", "rare"):
        yield Kernel("lp_backward_ends", f"lp_distance_backward_{name}")
    yield Kernel("lp_backward_ends", "sum_parts")
    for name in ("turn_samples", "decide_on_candidates"):
        yield Kernel("candidates", name)
    for flag in ("false", "true"):
        yield Kernel("candidates", f"mark_candidates<{flag}>")
        yield Kernel("candidate_distance", f"candidate_linf<{flag}>")
    for degree in (LOGARITHM, *DEGREES):
        yield Kernel("candidate_distance", f"candidate_power<{degree}>")
        yield Kernel("candidate_backward", f"candidate_backward<{degree}>")
    for is_weight in ("false", "true"):
        yield Kernel("scatter", f"scatter<{is_weight}>")


def _forward(vector: int, even: Iterable[int]) -> Iterable[Kernel]:
    for tile in (LARGE, MIDDLE, SMALL):
        yield Kernel("linf_distance", f"linf_distance<{tile.expression(vector)}>")
    for tile in (MIDDLE, SMALL):
        yield Kernel("linf_distance", f"linf_distance_stage<{tile.expression(vector)}>")
        for degree in (LOGARITHM, *DEGREES):
            name = f"lp_distance_power<{degree}, {tile.expression(vector)}>"
            yield Kernel("lp_distance", name)
    for p in even:
        yield even_kernel(p, LARGE, vector)
        yield even_kernel(p, SMALL, vector)
    for tile in (LARGE_BOXES, SMALL_BOXES):
        name = f"linf_distance_bounds<{tile.expression(vector)}>"
        yield Kernel("linf_distance_bounds", name)


def _backward(vector: int, even: Iterable[int]) -> Iterable[Kernel]:
    slopes = [f"EvenSlope<{p}>" for p in even]
    slopes += [f"PowerSlope<{degree}>" for degree in DEGREES]
    if vector == 1:
        slopes.append(f"PowerSlope<{LOGARITHM}>")
    for slope in slopes:
        yield Kernel("lp_distance_backward", f"lp_distance_backward<{slope}, {vector}>")
