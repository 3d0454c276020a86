"""The table of `python -m kernels.bench --static`: instructions, floors and budgets.

The floor counts the arithmetic alone: what no arrangement of loads and loops can go below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernels.bench.cost import Cost, cost_of
from kernels.cuda.catalogue import EVEN
from kernels.cuda.kernel import Kernel
from kernels.cuda.operators import LARGEST_UNSCALED, even_kernel
from kernels.cuda.power_plan import DEGREES, LOGARITHM
from kernels.cuda.problem import LARGE, LARGE_BOXES, MIDDLE

ARCHITECTURES = (80, 90, 100)
"""A100; H100 and H200; B200."""
TABLE_ARCHITECTURE = 90
MOST_REGISTERS = 255

# Multiplications of the shortest addition chain of each power.
_CHAIN = {1: 0, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 3, 9: 4, 10: 4, 11: 5, 12: 4, 13: 5, 14: 5}
_CHAIN |= {15: 5, 16: 4}
# What moving operands may add.
_LOADS, _LOADS_AND_SUMS = 0.6, 1.4


@dataclass(frozen=True)
class Row:
    """One kernel with its limits, in slots an element."""

    operator: str
    kernel: Kernel
    floor: float
    budget: float


def rows() -> Iterator[Row]:
    """Return the kernels that large layers run."""
    linf = "linf_distance"
    yield Row("infinity, forward", Kernel(linf, f"{linf}<{LARGE.expression(4)}>"), 1.75, 2.1)
    name = f"linf_distance_stage<{MIDDLE.expression(4)}>"
    yield Row("infinity, forward with arg-max", Kernel(linf, name), 1.75, 2.4)
    name = f"linf_distance_bounds<{LARGE_BOXES.expression(4)}>"
    yield Row("bounds, forward", Kernel("linf_distance_bounds", name), 4.0, 5.0)
    yield from (_even_forward(p) for p in EVEN)
    yield from (_power_forward(degree) for degree in (*DEGREES, LOGARITHM))
    yield from (_even_backward(p) for p in EVEN)
    yield from (_power_backward(degree) for degree in DEGREES)


def _even_forward(p: int) -> Row:
    floor = 2.0 + _CHAIN[p // 2]
    budget = 4.4 if p == 8 else floor + _LOADS
    return Row(f"p = {p}, forward", even_kernel(p, LARGE, 4), floor, budget)


def _power_forward(degree: int) -> Row:
    floor = 6.0 if degree == LOGARITHM else 3.0 + degree
    kernel = Kernel("lp_distance", f"lp_distance_power<{degree}, {MIDDLE.expression(4)}>")
    return Row(f"{_power_name(degree)}, forward", kernel, floor, floor + _LOADS)


def _even_backward(p: int) -> Row:
    floor = 3.0 if p == 2 else 5.0 + _CHAIN[p // 2 - 1]
    budget = 8.2 if p == 8 else floor + _LOADS_AND_SUMS
    name = f"lp_distance_backward<EvenSlope<{p}>, 4>"
    return Row(f"p = {p}, backward", Kernel("lp_distance_backward", name), floor, budget)


def _power_backward(degree: int) -> Row:
    floor = 5.0 + degree
    name = f"lp_distance_backward<PowerSlope<{degree}>, 4>"
    kernel = Kernel("lp_distance_backward", name)
    return Row(f"{_power_name(degree)}, backward", kernel, floor, floor + _LOADS_AND_SUMS)


def _power_name(degree: int) -> str:
    return "general p, logarithm" if degree == LOGARITHM else f"general p, degree {degree}"


def print_table() -> None:
    """Compile for sm_90 and print what each kernel costs.

    Raises:
        BuildError: There is no NVRTC or no cuobjdump.
    """
    print(f"Instructions an element (slots), compiled for sm_{TABLE_ARCHITECTURE}; not measured.")
    print(f"Even p above {LARGEST_UNSCALED} are scaled; general p needs an infinity pass before.")
    heads = ("floor", "slots", "budget", "unit", "registers", "spilled")
    print(f"{'':34}" + "".join(f"{head:>10}" for head in heads))
    for row in rows():
        cost = cost_of(row.kernel, TABLE_ARCHITECTURE)
        print(f"{row.operator:34}" + _cells(row, cost), flush=True)


def _cells(row: Row, cost: Cost) -> str:
    numbers = (row.floor, cost.slots, row.budget, cost.unit_slots)
    registers = (cost.registers.used, cost.registers.spilled_bytes)
    return "".join(f"{n:>10.2f}" for n in numbers) + "".join(f"{n:>10}" for n in registers)
