"""Leaving out inputs that provably cannot matter, where few enough are left.

A layer's candidates (csrc/cuda/candidates.h) are counted on a sample of its outputs. Where their
share is small the candidate kernels compute the layer, else the dense ones: both are launched, and
a number on the device, the gate, tells one of them to do nothing. So nothing waits for the count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.cuda.kernel import (
    FLOAT,
    LONG,
    POINTER,
    Arguments,
    Device,
    Kernel,
    Launch,
    blocks_of,
    fields,
)

BLOCK_ROWS = 128
"""Samples that share candidates."""
SMALLEST_P = 24.0
"""Below it too many inputs matter, trained weights or not."""

# Shares of candidates up to which they are expected to win; not yet measured.
MOST_AT_INFINITY, MOST_OF_POWERS = 0.05, 0.3

# Smaller layers are not worth the look.
_FEWEST_ROWS, _FEWEST_OUTPUTS, _FEWEST_INPUTS = 64, 64, 256
# Every so manieth output is looked at first.
_STEP = 16
_WARPS = 4


class CandidateArgs(Arguments):
    """`CandidateArgs` in csrc/cuda/candidates.h."""

    _fields_ = fields(
        (POINTER, "x w turned low high bits count gate distance"),
        (LONG, "rows outputs inputs x_stride out_stride padded_rows words output_step"),
        (POINTER, "plan"),
        (FLOAT, "most"),
    )


@dataclass(frozen=True)
class Candidates:
    """What is known of a layer's candidates, all of it on the device."""

    arguments: CandidateArgs
    gate: Tensor
    """1 where the candidate kernels compute the layer, 0 where the dense ones do."""
    memory: tuple[Tensor, ...]
    """What the arguments point to."""

    def launch(self) -> Launch:
        """Return the launch of a kernel with a warp for every output and block of samples."""
        warps = blocks_of(self.arguments.out_stride, _WARPS)
        return Launch((warps, self.arguments.padded_rows // BLOCK_ROWS, 1))


def is_worth_a_look(x: Tensor, weight: Tensor, groups: int) -> bool:
    """Return whether a layer is large enough to look for candidates."""
    return (
        x.shape[0] >= _FEWEST_ROWS
        and weight.shape[0] // groups >= _FEWEST_OUTPUTS
        and weight.shape[1] >= _FEWEST_INPUTS
    )


def find_candidates(
    device: Device,
    x: Tensor,
    weight: Tensor,
    groups: int,
    plan: Tensor | None = None,
    distance: Tensor | None = None,
) -> Candidates:
    """Look for the candidates of a layer; of its backward pass where the distances are given.

    Args:
        device: What runs the kernels.
        x: (B, G*I).
        weight: (O, I).
        groups: G.
        plan: Numbers of the power, on the device; None at infinity.
        distance: (B, O).
    """
    arguments, gate, memory = _new(x, weight, groups)
    arguments.most = MOST_AT_INFINITY
    if plan is not None:
        arguments.most = MOST_OF_POWERS
        arguments.plan = plan.data_ptr()
    if distance is not None:
        arguments.distance = distance.data_ptr()
    candidates = Candidates(arguments, gate, memory)
    row_blocks = arguments.padded_rows // BLOCK_ROWS
    mark = Kernel("candidates", f"mark_candidates<{str(distance is not None).lower()}>")
    device.launch(
        Kernel("candidates", "turn_samples"),
        Launch((blocks_of(x.shape[1], 32), row_blocks, 1), shared_bytes=4 * 32 * 129),
        arguments,
    )
    arguments.output_step = _STEP
    sampled = blocks_of(weight.shape[0], _STEP)
    device.launch(mark, Launch((blocks_of(sampled, _WARPS), row_blocks, 1)), arguments)
    device.launch(Kernel("candidates", "decide_on_candidates"), Launch((1, 1, 1), 1), arguments)
    arguments.output_step = 1
    device.launch(mark, candidates.launch(), arguments)
    return candidates


def gate_of(candidates: Candidates | None) -> Tensor | None:
    """Return what tells dense kernels to do nothing; None where they alone compute."""
    return None if candidates is None else candidates.gate


def _new(
    x: Tensor, weight: Tensor, groups: int
) -> tuple[CandidateArgs, Tensor, tuple[Tensor, ...]]:
    row_blocks, words = blocks_of(x.shape[0], BLOCK_ROWS), blocks_of(weight.shape[1], 32)
    turned = x.new_empty(x.shape[1], row_blocks * BLOCK_ROWS)
    ends = x.new_empty(2, row_blocks, x.shape[1])
    bits = torch.empty(row_blocks, weight.shape[0], words, dtype=torch.int32, device=x.device)
    count = torch.zeros(1, dtype=torch.int64, device=x.device)
    gate = torch.zeros(1, dtype=torch.int32, device=x.device)
    arguments = CandidateArgs(
        x=x,
        w=weight,
        turned=turned,
        low=ends[0],
        high=ends[1],
        bits=bits,
        count=count,
        gate=gate,
        rows=x.shape[0],
        outputs=weight.shape[0] // groups,
        inputs=weight.shape[1],
        x_stride=x.shape[1],
        out_stride=weight.shape[0],
        padded_rows=row_blocks * BLOCK_ROWS,
        words=words,
    )
    return arguments, gate, (turned, ends, bits, count, x, weight)
