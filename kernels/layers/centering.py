"""Centering: batch normalisation without the scale, which would change the Lipschitz constant."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kernels.layers.box import Box


class Centering(nn.Module):
    """Subtract each feature's mean: of the global batch in training, the running one in evaluation.

    Features lie along dimension 1, as channels do. In training the mean is over all positions of
    all samples of all ranks of ``torch.distributed``, each sample weighing the same however the
    batch is split, and the gradient flows through it across ranks.
    ``running_mean <- (1 - momentum) running_mean + momentum mean``.
    """

    running_mean: Tensor

    def __init__(self, num_features: int, momentum: float = 0.1) -> None:
        super().__init__()
        if num_features < 1:
            raise ValueError(f"Centering: num_features is {num_features}; it must be at least 1.")
        if not 0 < momentum <= 1:
            raise ValueError(f"Centering: momentum is {momentum}; it must be in (0, 1].")
        self.num_features = num_features
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Return x without its mean.

        Args:
            x: Features, (B, num_features, ...). A rank's B may differ from another's, and be 0.

        Returns:
            Centred features, of the same shape.

        Raises:
            ValueError: A shape that does not fit, or no samples at all in training.
        """
        self._check(x)
        if not self.training:
            return x - _along_features(self.running_mean, x)
        mean = _global_mean(x)
        with torch.no_grad():
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        return x - _along_features(mean, x)

    def bounds(self, lower: Tensor, upper: Tensor) -> Box:
        """Return the box of the outputs over a box of inputs, in evaluation mode.

        Rounding to nearest is monotone, so the box holds what `forward` returns, without slack.

        Args:
            lower: Lower ends, (B, num_features, ...).
            upper: Upper ends, of the same shape.

        Returns:
            Both ends minus the running mean.

        Raises:
            RuntimeError: In training mode, where the output depends on the whole batch.
            ValueError: A shape that does not fit.
        """
        if self.training:
            raise RuntimeError(
                "Centering.bounds holds in evaluation mode only; call .eval() first."
            )
        self._check(lower)
        self._check(upper)
        mean = _along_features(self.running_mean, lower)
        return Box(lower - mean, upper - mean)

    def extra_repr(self) -> str:
        """Return the settings, for ``print(layer)``."""
        return f"num_features={self.num_features}, momentum={self.momentum}"

    def _check(self, x: Tensor) -> None:
        if x.dim() < 2 or x.shape[1] != self.num_features:
            raise ValueError(
                f"Centering: x has shape {tuple(x.shape)}; expected (batch, {self.num_features}) "
                f"or (batch, {self.num_features}, ...)."
            )


def _along_features(mean: Tensor, x: Tensor) -> Tensor:
    """View one number a feature so that it broadcasts over the batch and the positions of x."""
    return mean.view(-1, *[1] * (x.dim() - 2))


def _global_mean(x: Tensor) -> Tensor:
    # Positions count as samples of their own; (B, num_features) stays as it is.
    x = x if x.dim() == 2 else x.movedim(1, -1).reshape(-1, x.shape[1])
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        if x.shape[0] == 0:
            raise ValueError("Centering: the batch is empty; its mean does not exist.")
        return x.mean(0)
    # The count travels with the sums; float32 holds it exactly up to 2^24 samples.
    total: Tensor = _SumOverRanks.apply(torch.cat([x.sum(0), x.new_tensor([x.shape[0]])]))
    return total[:-1] / total[-1]


class _SumOverRanks(torch.autograd.Function):
    """Sum over ranks; every rank's loss depends on every summand, so gradients are summed too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        grad = grads[0].clone()
        dist.all_reduce(grad)
        return grad
