"""Forward passes: which kernels compute an operator, with what memory, cut how.

Legend: B batch, G groups, I inputs per group, O outputs of all groups. Tensors are float32 and lie
where the device computes. Nothing here waits for the device.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import torch
from torch import Tensor

from kernels.cuda.candidates import (
    SMALLEST_P,
    CandidateArgs,
    Candidates,
    find_candidates,
    is_worth_a_look,
)
from kernels.cuda.kernel import Arguments, Device, Kernel, Launch, blocks_of, fields
from kernels.cuda.power_plan import PowerPlan, plan_sum
from kernels.cuda.tiling import DEPTH, Cut, Tile, cut

LARGE, MIDDLE, SMALL = Tile(8, 8), Tile(8, 4), Tile(4, 2)
LARGE_BOXES, SMALL_BOXES = Tile(4, 8, 2), Tile(4, 2, 2)
BOXES_OF_GRADIENT = Tile(4, 4, 2)

LARGEST_EVEN = 32
"""Even p up to here are multiplication chains."""
LARGEST_UNSCALED = 12
"""Even p up to here stay in float32's range without a scale, unless distances are extreme."""
THREADS = 128

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int, ctypes.c_float


class Problem(Arguments):
    """The operands; `Problem` in csrc/cuda/tiles.h."""

    _fields_ = fields(
        x=_POINTER,
        upper=_POINTER,
        w=_POINTER,
        rows=_LONG,
        outputs=_LONG,
        inputs=_LONG,
        x_stride=_LONG,
        out_stride=_LONG,
        stages_a_split=_LONG,
        gate=_POINTER,
    )


class _LinfArgs(Arguments):
    _fields_ = fields(problem=Problem, distance=_POINTER, key=_POINTER, num_splits=_INT)


class _ArgmaxArgs(Arguments):
    _fields_ = fields(problem=Problem, key=_POINTER, distance=_POINTER, argmax=_POINTER, depth=_INT)


class BoundsArgs(Arguments):
    """`BoundsArgs` in csrc/cuda/linf_distance_bounds.cu."""

    _fields_ = fields(
        problem=Problem,
        smallest=_POINTER,
        largest=_POINTER,
        smallest_key=_POINTER,
        largest_key=_POINTER,
        num_splits=_INT,
    )


class _LpArgs(Arguments):
    _fields_ = fields(
        problem=Problem, sums=_POINTER, plan=_POINTER, largest=_POINTER, scale=_POINTER
    )


class _ScaleArgs(Arguments):
    _fields_ = fields(problem=Problem, scale=_POINTER, p=_FLOAT)


class _FinishArgs(Arguments):
    _fields_ = fields(
        problem=Problem,
        sums=_POINTER,
        largest=_POINTER,
        scale=_POINTER,
        distance=_POINTER,
        plan=_POINTER,
        p=_FLOAT,
        num_splits=_INT,
        sums_a_split=_LONG,
        thread_rows=_INT,
        thread_cols=_INT,
    )


class _CandidateDistanceArgs(Arguments):
    _fields_ = fields(candidates=CandidateArgs, distance=_POINTER, argmax=_POINTER, plan=_POINTER)


def linf_distance(device: Device, x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Return ``max_i |x_i - w_oi|``, (B, O)."""
    x, weight = x.contiguous(), weight.contiguous()
    distance = x.new_zeros(x.shape[0], weight.shape[0])
    if distance.numel() == 0:
        return distance
    candidates = _candidates_at_infinity(device, x, weight, groups, distance, None)
    _dense_linf(device, x, weight, groups, distance, gate_of(candidates))
    return distance


def _dense_linf(
    device: Device, x: Tensor, weight: Tensor, groups: int, distance: Tensor, gate: Tensor | None
) -> None:
    """Fill ``distance``, which is all zeros, unless the gate says that candidates have."""
    plan = cut_of(device, (LARGE, MIDDLE, SMALL), x, weight, groups)
    device.launch(
        Kernel("linf_distance", f"linf_distance<{plan.tile.expression(vector_of(x, weight))}>"),
        launch_of(plan),
        _LinfArgs(
            problem=problem_of(x, weight, groups, plan, gate=gate),
            distance=distance,
            num_splits=plan.splits,
        ),
    )


def linf_distance_argmax(
    device: Device, x: Tensor, weight: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Return the distance and the lowest input that reaches it, int32, both (B, O)."""
    x, weight = x.contiguous(), weight.contiguous()
    distance = x.new_zeros(x.shape[0], weight.shape[0])
    argmax = torch.zeros_like(distance, dtype=torch.int32)
    if distance.numel() == 0:
        return distance, argmax
    candidates = _candidates_at_infinity(device, x, weight, groups, distance, argmax)
    plan = cut_of(device, (MIDDLE, SMALL), x, weight, groups)
    problem = problem_of(x, weight, groups, plan, gate=gate_of(candidates))
    key = torch.zeros_like(distance, dtype=torch.int64)
    tile = plan.tile.expression(vector_of(x, weight))
    device.launch(
        Kernel("linf_distance", f"linf_distance_stage<{tile}>"),
        launch_of(plan),
        _LinfArgs(problem=problem, key=key, num_splits=plan.splits),
    )
    device.launch(
        Kernel("linf_distance", "linf_argmax"),
        launch_a_pair(distance),
        _ArgmaxArgs(problem=problem, key=key, distance=distance, argmax=argmax, depth=DEPTH),
    )
    return distance, argmax


def _candidates_at_infinity(
    device: Device,
    x: Tensor,
    weight: Tensor,
    groups: int,
    distance: Tensor,
    argmax: Tensor | None,
) -> Candidates | None:
    """Compute a layer from its candidates, if it is large and they are few."""
    if not is_worth_a_look(x, weight, groups):
        return None
    candidates = find_candidates(device, x, weight, groups)
    with_input = str(argmax is not None).lower()
    device.launch(
        Kernel("candidate_distance", f"candidate_linf<{with_input}>"),
        candidates.launch(),
        _CandidateDistanceArgs(candidates=candidates.arguments, distance=distance, argmax=argmax),
    )
    return candidates


def linf_distance_bounds(
    device: Device, lower: Tensor, upper: Tensor, weight: Tensor, groups: int
) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest distance over boxes, both (B, O)."""
    lower, upper, weight = lower.contiguous(), upper.contiguous(), weight.contiguous()
    smallest = lower.new_zeros(lower.shape[0], weight.shape[0])
    largest = torch.zeros_like(smallest)
    if smallest.numel() == 0:
        return smallest, largest
    plan = cut_of(device, (LARGE_BOXES, SMALL_BOXES), lower, weight, groups)
    arguments = BoundsArgs(
        problem=problem_of(lower, weight, groups, plan, upper),
        smallest=smallest,
        largest=largest,
        num_splits=plan.splits,
    )
    tile = plan.tile.expression(vector_of(lower, upper, weight))
    source = "linf_distance_bounds"
    device.launch(Kernel(source, f"linf_distance_bounds<{tile}>"), launch_of(plan), arguments)
    device.launch(Kernel(source, "linf_distance_bounds_finish"), launch_a_pair(smallest), arguments)
    return smallest, largest


def lp_distance(device: Device, x: Tensor, weight: Tensor, p: float, groups: int) -> Tensor:
    """Return ``(sum_i |x_i - w_oi|^p)^(1/p)``, (B, O)."""
    x, weight = x.contiguous(), weight.contiguous()
    if x.shape[0] == 0 or weight.shape[0] == 0:
        return x.new_zeros(x.shape[0], weight.shape[0])
    if is_even_power(p):
        return _even_distance(device, x, weight, int(p), groups)
    return _power_distance(device, x, weight, p, groups)


def is_even_power(p: float) -> bool:
    """Return whether multiplications alone make the power."""
    return p <= LARGEST_EVEN and p % 2 == 0


def _even_distance(device: Device, x: Tensor, weight: Tensor, p: int, groups: int) -> Tensor:
    plan = cut_of(device, (LARGE, SMALL), x, weight, groups)
    problem = problem_of(x, weight, groups, plan)
    scale = None
    if p > LARGEST_UNSCALED:
        scale = x.new_empty(1)
        device.launch(
            Kernel("lp_distance", "lp_distance_scale"),
            Launch((1, 1, 1), threads=1024, shared_bytes=4 * 32),
            _ScaleArgs(problem=problem, scale=scale, p=p),
        )
    sums = _new_sums(x, plan)
    device.launch(
        even_kernel(p, plan.tile, vector_of(x, weight)),
        launch_of(plan),
        _LpArgs(problem=problem, sums=sums, scale=scale),
    )
    distance = x.new_empty(x.shape[0], weight.shape[0])
    _finish(device, distance, problem, plan, sums, p, scale=scale)
    return distance


def even_kernel(p: int, tile: Tile, vector: int) -> Kernel:
    """Return the kernel of an even p."""
    is_scaled = "true" if p > LARGEST_UNSCALED else "false"
    return Kernel("lp_distance", f"lp_distance_even<{p}, {is_scaled}, {tile.expression(vector)}>")


def _power_distance(device: Device, x: Tensor, weight: Tensor, p: float, groups: int) -> Tensor:
    distance = x.new_zeros(x.shape[0], weight.shape[0])
    power = plan_sum(p)
    values = on_device(power, x)
    candidates = None
    if p >= SMALLEST_P and is_worth_a_look(x, weight, groups):
        candidates = find_candidates(device, x, weight, groups, values)
        device.launch(
            Kernel("candidate_distance", f"candidate_power<{power.degree}>"),
            candidates.launch(),
            _CandidateDistanceArgs(candidates=candidates.arguments, distance=distance, plan=values),
        )
    gate = gate_of(candidates)
    largest = torch.zeros_like(distance)
    _dense_linf(device, x, weight, groups, largest, gate)
    plan = cut_of(device, (MIDDLE, SMALL), x, weight, groups)
    problem = problem_of(x, weight, groups, plan, gate=gate)
    sums = _new_sums(x, plan)
    tile = plan.tile.expression(vector_of(x, weight))
    device.launch(
        Kernel("lp_distance", f"lp_distance_power<{power.degree}, {tile}>"),
        launch_of(plan),
        _LpArgs(problem=problem, sums=sums, plan=values, largest=largest),
    )
    _finish(device, distance, problem, plan, sums, p, largest=largest, power=values)
    return distance


def _new_sums(x: Tensor, plan: Cut) -> Tensor:
    count = math.prod(plan.grid) * plan.tile.rows * plan.tile.cols
    return x.new_empty(count, dtype=torch.float64)


def _finish(
    device: Device,
    distance: Tensor,
    problem: Problem,
    plan: Cut,
    sums: Tensor,
    p: float,
    largest: Tensor | None = None,
    scale: Tensor | None = None,
    power: Tensor | None = None,
) -> None:
    device.launch(
        Kernel("lp_distance", "lp_distance_finish"),
        launch_a_pair(distance),
        _FinishArgs(
            problem=problem,
            sums=sums,
            largest=largest,
            scale=scale,
            distance=distance,
            plan=power,
            p=p,
            num_splits=plan.splits,
            sums_a_split=sums.numel() // plan.splits,
            thread_rows=plan.tile.thread_rows,
            thread_cols=plan.tile.thread_cols,
        ),
    )


def gate_of(candidates: Candidates | None) -> Tensor | None:
    """Return what tells dense kernels to do nothing; None where they alone compute."""
    return None if candidates is None else candidates.gate


_held: Callable[[PowerPlan], Tensor] | None = None
_plans: dict[tuple[PowerPlan, torch.device], Tensor] = {}
_MOST_PLANS = 64


def on_device(plan: PowerPlan, x: Tensor) -> Tensor:
    """Return the plan's numbers where x lies; a plan used before is there already."""
    if _held is not None:
        return _held(plan)
    key = (plan, x.device)
    if key not in _plans:
        if len(_plans) >= _MOST_PLANS:
            del _plans[next(iter(_plans))]
        _plans[key] = torch.tensor(plan.values).to(x.device, non_blocking=True)
    return _plans[key]


def hold_numbers(numbers: Callable[[PowerPlan], Tensor] | None) -> None:
    """Ask `numbers` for the numbers of plans from now on; None ends it. For `moving`."""
    global _held  # noqa: PLW0603 (backward passes run on threads of torch's own)
    _held = numbers


def cut_of(device: Device, tiles: tuple[Tile, ...], x: Tensor, weight: Tensor, groups: int) -> Cut:
    """Return how to cut an operator with these operands."""
    sizes = (x.shape[0], weight.shape[0] // groups, weight.shape[1])
    return cut(tiles, sizes, groups, device.num_processors)


def problem_of(
    x: Tensor,
    weight: Tensor,
    groups: int,
    plan: Cut,
    upper: Tensor | None = None,
    gate: Tensor | None = None,
) -> Problem:
    """Return the operands as kernels take them."""
    return Problem(
        x=x,
        upper=upper,
        w=weight,
        rows=x.shape[0],
        outputs=weight.shape[0] // groups,
        inputs=weight.shape[1],
        x_stride=x.shape[1],
        out_stride=weight.shape[0],
        stages_a_split=plan.stages_a_split,
        gate=gate,
    )


def launch_of(plan: Cut) -> Launch:
    """Return the launch of a kernel with tiles."""
    return Launch(plan.grid, THREADS, plan.tile.shared_bytes)


def launch_a_pair(distance: Tensor) -> Launch:
    """Return the launch of a kernel with one thread for each number of ``distance``."""
    return Launch((blocks_of(distance.numel(), THREADS), 1, 1), THREADS)


def vector_of(*operands: Tensor) -> int:
    """Return how many floats one copy may take: 4 where all rows start at multiples of 16 bytes."""
    is_aligned = all(t.shape[1] % 4 == 0 and t.data_ptr() % 16 == 0 for t in operands)
    # Rows of groups start anywhere inside a row of x.
    return 4 if is_aligned and operands[-1].shape[1] % 4 == 0 else 1
