"""Adam with decoupled l_p weight decay, one kernel a weight: the step of the networks' training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.cuda.kernel import LONG, POINTER, Arguments, Device, Kernel, Launch, fields

_THREADS = 256
_SHARED_BYTES = 4 * 4 * 8


class _AdamArgs(Arguments):
    _fields_ = fields((POINTER, "w mean square grad control"), (LONG, "row_length"))


def control_of(
    step: int, rate: float, decay: float, p: float, betas: tuple[float, float], eps: float
) -> Tensor:
    """Return the numbers of a step, for `decayed_adam_`; a captured graph reads them anew.

    Args:
        step: From 1.
        rate: Learning rate.
        decay: Lambda; a weight decays by ``rate * decay``.
        p: Norm of the decay, from 2 to 1000 or infinity.
        betas: Of the running means of gradients and of their squares.
        eps: Added to the root of the latter.
    """
    left = (1 - betas[0] ** step, 1 - betas[1] ** step)
    return torch.tensor([rate, rate * decay, p, *betas, eps, *left], dtype=torch.float32)


def decayed_adam_(
    device: Device, weight: Tensor, grad: Tensor, mean: Tensor, square: Tensor, control: Tensor
) -> None:
    """Change a weight and its two running means by one step.

    ``w_i <- w_i - rate decay (|w_i| / ||w||_p)^(p-2) w_i`` for each row w, from the weights before
    the step, then Adam.

    Args:
        device: What runs the kernel.
        weight: (O, I), float32; likewise the next three, all contiguous.
        grad: Its gradient.
        mean: Running mean of gradients.
        square: Running mean of their squares.
        control: As `control_of` has it, where the weight lies.

    Raises:
        ValueError: A tensor that does not fit.
    """
    for tensor in (grad, mean, square):
        if tensor.shape != weight.shape or not tensor.is_contiguous():
            raise ValueError("decayed_adam_: gradient and means must be as the weight, contiguous.")
    if weight.dim() != 2 or not weight.is_contiguous():
        raise ValueError("decayed_adam_: the weight must be (outputs, inputs) and contiguous.")
    if math.prod(weight.shape) == 0:
        return
    device.launch(
        Kernel("adam", "decayed_adam"),
        Launch((weight.shape[0], 1, 1), _THREADS, _SHARED_BYTES),
        _AdamArgs(
            w=weight,
            mean=mean,
            square=square,
            grad=grad,
            control=control,
            row_length=weight.shape[1],
        ),
    )
