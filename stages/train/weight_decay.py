"""l_p weight decay: each weight shrinks by its part in its row's l_p norm (arXiv:2102.05363)."""

import math

import torch
from torch import Tensor

LOG_FLOOR = -60.0
"""Logarithm of the smallest u^(p-2) that is told apart; the largest is 0."""


@torch.no_grad()
def lp_decay_(weight: Tensor, p: float, amount: float) -> None:
    """`w_i <- w_i - amount * (|w_i| / ||w||_p)^(p-2) * w_i` for each row w, in place.

    p = 2 is ordinary decay; p = infinity touches the largest entry of a row only, the first of
    equals. A row of zeros stays.

    Args:
        weight: (O, I); of any shape at p = 2.
        p: from 2 to 1000, or math.inf.
        amount: learning rate times lambda.
    """
    if math.isinf(p):
        index = weight.abs().argmax(1, keepdim=True)
        weight.scatter_(1, index, weight.gather(1, index) * (1 - amount))
        return
    if p == 2:
        weight.mul_(1 - amount)
        return
    # u = |w| / max |w| keeps powers finite: the factor is u^(p-2) / (sum u^p)^((p-2)/p).
    size = weight.abs()
    size /= size.amax(1, keepdim=True).clamp_(min=torch.finfo(weight.dtype).tiny)
    # Faster than pow. The floor changes no float32 weight and keeps subnormal numbers out, on which
    # a CPU spends ten times as long.
    power = size.log().mul_(p - 2).clamp_(min=LOG_FLOOR).exp_()
    norm = (power * size.square_()).sum(1, keepdim=True).pow_((p - 2) / p)
    norm.clamp_(min=torch.finfo(weight.dtype).tiny)
    weight.addcmul_(weight, power.div_(norm), value=-amount)
