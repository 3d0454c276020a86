"""Backward passes: which kernels compute the gradients, with what memory, cut how.

Legend as in `kernels.cuda.operators`. A gradient that is not wanted comes back empty.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cuda.candidates import (
    BLOCK_ROWS,
    SMALLEST_P,
    CandidateArgs,
    Candidates,
    find_candidates,
    gate_of,
    is_worth_a_look,
)
from kernels.cuda.kernel import (
    FLOAT,
    INT,
    LONG,
    POINTER,
    Arguments,
    Device,
    Kernel,
    Launch,
    blocks_of,
    fields,
)
from kernels.cuda.operators import is_even_power
from kernels.cuda.power_plan import LOGARITHM, PowerPlan, on_device, plan_slope
from kernels.cuda.problem import THREADS, launch_a_pair, vector_of, zeros_if
from kernels.cuda.tiling import split_sizes

# Of csrc/cuda/lp_distance_backward.cu: inputs of a block, outputs of a stage.
BLOCK_INPUTS, STAGE_OUTPUTS = 32, 16
# Of csrc/cuda/candidate_backward.cu: inputs of a block, and their samples with sums of four warps.
STRIP_INPUTS = 16
STRIP_SHARED_BYTES = 4 * 5 * STRIP_INPUTS * BLOCK_ROWS
_SOURCE, _ENDS = "lp_distance_backward", "lp_backward_ends"


class _BackwardArgs(Arguments):
    _fields_ = fields(
        (POINTER, "x w factors plan largest grad_x grad_w"),
        (LONG, "rows outputs inputs x_stride padded_rows padded_outputs stages_a_split"),
        (POINTER, "gate"),
    )


class _FactorArgs(Arguments):
    _fields_ = fields(
        (POINTER, "grad distance x plan largest factors num_rare"),
        (LONG, "rows outputs x_stride out_stride padded_rows padded_outputs"),
        (FLOAT, "p"),
    )


class _SumArgs(Arguments):
    _fields_ = fields((POINTER, "parts sum gate"), (LONG, "entries"), (INT, "num_parts"))


class _RareArgs(Arguments):
    _fields_ = fields(
        (POINTER, "x w grad distance largest num_rare grad_x grad_w plan"),
        (LONG, "rows outputs inputs x_stride out_stride"),
        (FLOAT, "p"),
    )


class _CandidateBackwardArgs(Arguments):
    _fields_ = fields(
        (CandidateArgs, "candidates"),
        (POINTER, "factors plan grad_x grad_w"),
        (LONG, "padded_outputs"),
    )


@dataclass(frozen=True)
class _Pass:
    """One backward pass: operands, the power, what each pair contributes, gradients to fill."""

    x: Tensor
    weight: Tensor
    groups: int
    plan: PowerPlan | None
    """None for even p to 32."""
    numbers: Tensor | None
    """The plan's, on the device."""
    factors: Tensor
    """(1 for even p, else 2; groups, outputs, samples), the latter two padded."""
    largest: Tensor | None
    """The largest distance and |x|, as bits; even p only."""
    num_rare: Tensor
    """How many pairs are out of float32's range and left to `_add_rare`."""
    grad_x: Tensor
    grad_w: Tensor


def lp_distance_backward(
    device: Device,
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    distance: Tensor,
    p: float,
    groups: int,
    output_mask: list[bool],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of x, (B, G*I), and of the weights, (O, I)."""
    grad, x, weight, distance = (t.contiguous() for t in (grad, x, weight, distance))
    grad_x, grad_w = zeros_if(output_mask[0], x), zeros_if(output_mask[1], weight)
    if distance.numel() == 0 or not any(output_mask):
        return grad_x, grad_w
    plan = None if is_even_power(p) else plan_slope(p - 1)
    numbers = None if plan is None else on_device(plan, x)
    factors = _factors(device, grad, x, distance, p, groups, numbers)
    work = _Pass(x, weight, groups, plan, numbers, *factors, grad_x, grad_w)
    candidates = None
    if plan is not None and p >= SMALLEST_P and is_worth_a_look(x, weight, groups):
        candidates = find_candidates(device, x, weight, groups, numbers, distance)
        _candidate_gradients(device, work, plan, candidates)
    slope = f"EvenSlope<{int(p)}>" if plan is None else f"PowerSlope<{plan.degree}>"
    _dense_gradients(device, work, slope, gate_of(candidates))
    _add_rare(device, work, grad, distance, p)
    return grad_x, grad_w


def _candidate_gradients(
    device: Device, work: _Pass, plan: PowerPlan, candidates: Candidates
) -> None:
    """Fill the wanted gradients, if the gate says so."""
    strips = blocks_of(work.weight.shape[1], STRIP_INPUTS)
    device.launch(
        Kernel("candidate_backward", f"candidate_backward<{plan.degree}>"),
        Launch((strips, 1, work.groups), THREADS, STRIP_SHARED_BYTES),
        _CandidateBackwardArgs(
            candidates=candidates.arguments,
            factors=work.factors,
            plan=work.numbers,
            grad_x=_if_wanted(work.grad_x),
            grad_w=_if_wanted(work.grad_w),
            padded_outputs=work.factors.shape[2],
        ),
    )


def _add_rare(device: Device, work: _Pass, grad: Tensor, distance: Tensor, p: float) -> None:
    """Add the pairs that are out of float32's range; nearly always there are none."""
    x, weight = work.x, work.weight
    for gradient, kind in ((work.grad_x, "grad_x"), (work.grad_w, "grad_w")):
        if gradient.numel() == 0:
            continue
        device.launch(
            Kernel(_ENDS, "lp_distance_backward_rare"),
            Launch((gradient.shape[0], 1, 1), THREADS),
            _RareArgs(
                x=x,
                w=weight,
                grad=grad,
                distance=distance,
                largest=work.largest,
                num_rare=work.num_rare,
                plan=work.numbers,
                rows=x.shape[0],
                outputs=weight.shape[0] // work.groups,
                inputs=weight.shape[1],
                x_stride=x.shape[1],
                out_stride=weight.shape[0],
                p=p,
                **{kind: gradient},
            ),
        )


def _factors(
    device: Device,
    grad: Tensor,
    x: Tensor,
    distance: Tensor,
    p: float,
    groups: int,
    plan: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return `factors`, `largest` and `num_rare` of a pass."""
    rows, outputs = distance.shape[0], distance.shape[1] // groups
    padded_rows = blocks_of(rows, BLOCK_ROWS) * BLOCK_ROWS
    padded_outputs = blocks_of(outputs, STAGE_OUTPUTS) * STAGE_OUTPUTS
    num_rare = torch.zeros(1, dtype=torch.int32, device=grad.device)
    largest = num_rare.new_zeros(2) if plan is None else None
    shape = (1 if is_even_power(p) else 2, groups, padded_outputs, padded_rows)
    factors = grad.new_empty(shape)
    arguments = _FactorArgs(
        grad=grad,
        distance=distance,
        x=x,
        plan=plan,
        largest=largest,
        factors=factors,
        num_rare=num_rare,
        rows=rows,
        outputs=outputs,
        x_stride=x.shape[1],
        out_stride=distance.shape[1],
        padded_rows=padded_rows,
        padded_outputs=padded_outputs,
        p=p,
    )
    if largest is not None:
        blocks = min(blocks_of(distance.numel(), THREADS), 8 * device.num_processors)
        device.launch(
            Kernel(_ENDS, "lp_distance_backward_largest"), Launch((blocks, 1, 1)), arguments
        )
    device.launch(
        Kernel(_ENDS, "lp_distance_backward_factors"),
        Launch((padded_rows // 32 * (padded_outputs // 16), 1, groups), THREADS, 4 * 2 * 16 * 33),
        arguments,
    )
    return factors, largest, num_rare


def _dense_gradients(device: Device, work: _Pass, slope: str, gate: Tensor | None) -> None:
    """Fill the wanted gradients, unless the gate says that candidates have."""
    x, weight = work.x, work.weight
    # With logarithms the special-function unit is the limit; long copies would only cost registers.
    is_logarithm = work.plan is not None and work.plan.degree == LOGARITHM
    vector = 1 if is_logarithm else vector_of(x, weight)
    num_factors, groups, padded_outputs, padded_rows = work.factors.shape
    row_blocks = padded_rows // BLOCK_ROWS
    blocks = row_blocks * blocks_of(weight.shape[1], BLOCK_INPUTS)
    stages = padded_outputs // STAGE_OUTPUTS
    split_stages = cut_outputs(blocks * groups, stages, device.num_processors)
    splits = blocks_of(stages, split_stages)
    parts_x, parts_w = _parts(work.grad_x, splits), _parts(work.grad_w, row_blocks)
    device.launch(
        Kernel(_SOURCE, f"lp_distance_backward<{slope}, {vector}>"),
        Launch((blocks, splits, groups), THREADS, backward_shared_bytes(num_factors)),
        _BackwardArgs(
            x=x,
            w=weight,
            factors=work.factors,
            plan=work.numbers,
            largest=work.largest,
            grad_x=_if_wanted(parts_x),
            grad_w=_if_wanted(parts_w),
            rows=x.shape[0],
            outputs=weight.shape[0] // groups,
            inputs=weight.shape[1],
            x_stride=x.shape[1],
            padded_rows=padded_rows,
            padded_outputs=padded_outputs,
            stages_a_split=split_stages,
            gate=gate,
        ),
    )
    _sum_parts(device, parts_x, work.grad_x, gate)
    _sum_parts(device, parts_w, work.grad_w, gate)


def _parts(gradient: Tensor, count: int) -> Tensor:
    """Memory for parts of a gradient, to be added up: its own where there is one part."""
    return gradient if count == 1 else gradient.new_empty((count, *gradient.shape))


def _if_wanted(gradient: Tensor) -> Tensor | None:
    return gradient if gradient.numel() > 0 else None


def backward_shared_bytes(num_factors: int) -> int:
    """Return the shared memory of a block: two stages, two sets of sums over samples."""
    stage = STAGE_OUTPUTS * (BLOCK_INPUTS + 4 + num_factors * BLOCK_ROWS)
    sums = 2 * STAGE_OUTPUTS * (BLOCK_INPUTS + 4)
    return 4 * 2 * (stage + sums)


def cut_outputs(blocks: int, stages: int, num_processors: int) -> int:
    """Return how many stages of outputs a block takes, so that no processor waits long."""

    def time(split_stages: int) -> int:
        rounds = blocks_of(blocks * blocks_of(stages, split_stages), num_processors)
        return rounds * (split_stages + 2)

    # Of equally fast ones the one with the fewest splits: each writes a part of grad_x.
    return min(reversed(split_sizes(stages)), key=time)


def _sum_parts(device: Device, parts: Tensor, total: Tensor, gate: Tensor | None) -> None:
    if parts is total or total.numel() == 0:
        return
    device.launch(
        Kernel(_ENDS, "sum_parts"),
        launch_a_pair(total),
        _SumArgs(
            parts=parts, sum=total, gate=gate, entries=total.numel(), num_parts=parts.shape[0]
        ),
    )
