"""Leaves weights alone whose gradient is rounding noise, which Adam would turn into full steps.

A hidden layer starts with entries of -10 that pass an input on: |x - w| = x + 10 exceeds everything
else in its row, for every image. Moving such an entry shifts an output as a whole, and Centering
undoes the shift, so the true gradient is 0. The computed one is what rounding leaves of a sum that
cancels, some 1e-9; Adam divides it by its own size, and the entry walks at random, another way for
another number of ranks. (A larger adam_eps cures that too, but the gradients that matter at large p
are as small: 1e-8 costs half a point of certified accuracy, see docs/scaling.md.)

So the gradient of these entries is multiplied by `share`: 0 where the entry decides its output for
every image of the global batch to a part in a thousand, 1 where it is twice as far from that.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stages.models.linf.network import LinfNetwork

DECIDES_TO = 1e-3
"""Rounding reaches 6e-5 of a term at p = 1000 (p - 1 half units in the last place)."""


def mask_identity_gradients(network: LinfNetwork) -> None:
    """Watch the hidden layers that start with entries which pass an input on."""
    for layer in network.hidden:
        entries = layer.distance.identity_entries()
        if entries is not None:
            _Watch(layer.distance, *entries)


class _Watch:
    """Sees the forward pass of a layer, then the gradient of its weight."""

    def __init__(self, layer: Any, rows: Tensor, columns: Tensor) -> None:
        self._rows, self._columns = rows, columns
        self._share: Tensor | None = None
        self._pending: dist.Work | None = None
        layer.register_forward_hook(self._look)
        layer.weight.register_hook(self._scale)

    def _look(self, layer: Any, inputs: tuple[Tensor, float], y: Tensor) -> None:
        if not (layer.training and torch.is_grad_enabled()):
            return
        x, p = inputs
        with torch.no_grad():
            self._share = decided_share(x.detach(), self._entries(layer), y.detach(), p)
        if dist.is_initialized() and dist.get_world_size() > 1:
            self._pending = dist.all_reduce(self._share, dist.ReduceOp.MAX, async_op=True)

    def _scale(self, grad: Tensor) -> Tensor:
        assert self._share is not None, "a gradient comes after a forward pass"
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        rows, columns = self._rows.to(grad.device), self._columns.to(grad.device)
        scaled = grad.clone()
        scaled[rows, columns] *= self._share
        return scaled

    def _entries(self, layer: Any) -> Tensor:
        weight: Tensor = layer.weight.detach()
        return weight[self._rows.to(weight.device), self._columns.to(weight.device)]


def decided_share(x: Tensor, entries: Tensor, y: Tensor, p: float) -> Tensor:
    """How much of its gradient each entry keeps.

    With a_b = (|x_b - w| / y_b)^(p - 1), the derivative of an output by its entry but for the sign,
    and d = max_b (1 - a_b): 0 up to d = `DECIDES_TO`, 1 from twice that on, linear in between.

    Args:
        x: (B, I) inputs of the layer.
        entries: (O,), of output o the weight of input o mod I.
        y: (B, O) distances.
        p: their norm.

    Returns:
        (O,) in [0, 1].
    """
    num_copies = -(-y.shape[1] // x.shape[1])
    if num_copies > 1:
        x = x.repeat(1, num_copies)[:, : y.shape[1]]
    least = torch.sub(x, entries).abs_().div_(y).amin(0).clamp_(max=1)
    decided = least == 1 if math.isinf(p) else least.pow(p - 1)
    return ((1 - decided.to(y.dtype)) / DECIDES_TO - 1).clamp_(0, 1)
