"""Forward passes: which kernels compute an operator, with what memory, cut how.

Legend: B batch, G groups, I inputs per group, O outputs of all groups. Tensors are float32 and lie
where the device computes. Nothing here waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.cuda.candidates import (
    SMALLEST_P,
    CandidateArgs,
    Candidates,
    find_candidates,
    gate_of,
    is_worth_a_look,
)
from kernels.cuda.kernel import FLOAT, INT, LONG, POINTER, Arguments, Device, Kernel, Launch, fields
from kernels.cuda.power_plan import on_device, plan_sum
from kernels.cuda.problem import (
    LARGE,
    LARGE_BOXES,
    MIDDLE,
    SMALL,
    SMALL_BOXES,
    BoundsArgs,
    Problem,
    cut_of,
    launch_a_pair,
    launch_of,
    problem_of,
    vector_of,
)
from kernels.cuda.tiling import DEPTH, Cut, Tile

LARGEST_EVEN = 32
"""Even p up to here are multiplication chains."""
LARGEST_UNSCALED = 12
"""Even p up to here stay in float32's range without a scale, unless distances are extreme."""


class _LinfArgs(Arguments):
    _fields_ = fields((Problem, "problem"), (POINTER, "distance key"), (INT, "num_splits"))


class _ArgmaxArgs(Arguments):
    _fields_ = fields((Problem, "problem"), (POINTER, "key distance argmax"), (INT, "depth"))


class _LpArgs(Arguments):
    _fields_ = fields((Problem, "problem"), (POINTER, "sums plan largest scale"))


class _ScaleArgs(Arguments):
    _fields_ = fields((Problem, "problem"), (POINTER, "scale"), (FLOAT, "p"))


class _FinishArgs(Arguments):
    _fields_ = fields(
        (Problem, "problem"),
        (POINTER, "sums largest scale distance plan"),
        (FLOAT, "p"),
        (INT, "num_splits"),
        (LONG, "sums_a_split"),
        (INT, "thread_rows thread_cols"),
    )


class _CandidateDistanceArgs(Arguments):
    _fields_ = fields((CandidateArgs, "candidates"), (POINTER, "distance argmax plan"))


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
