"""Clipped worst-case margin plus a fading cross-entropy of scaled logits."""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.train.losses.loss import Loss, LossInputs, WeightAccess
from stages.train.losses.mixture.config import MixtureSettings

SMALLEST_SCALE = 1e-3
"""The logit scale is kept at or above this, so that it never turns cross-entropy around."""


class Mixture(Loss):
    """`mixture` of a batch, with a learnt scale of the logits."""

    def __init__(self, settings: MixtureSettings) -> None:
        super().__init__()
        self._settings = settings
        self.learning_rate = settings.scale_learning_rate
        # One element, not zero-dimensional: DeepSpeed broadcasts parameters as bytes.
        self.logit_scale = nn.Parameter(torch.ones(1))

    def forward(self, inputs: LossInputs) -> Tensor:
        """See `Loss`."""
        scaled = self.logit_scale * inputs.logits
        weight = inputs.values["cross_entropy_weight"]
        return mixture(inputs.worst, inputs.eps_input, scaled, inputs.labels, weight, inputs.count)

    def at(self, rise: float) -> Mapping[str, float]:
        """The weight of the cross-entropy: exponential in the rise of the surrogate."""
        start, end = self._settings.cross_entropy_start, self._settings.cross_entropy_end
        weight = start * math.pow(end / start, rise) if start else 0.0
        return {"cross_entropy_weight": weight}

    def columns(self) -> Mapping[str, float]:
        """The scale."""
        return {"logit_scale": float(self.logit_scale.detach())}

    @torch.no_grad()
    def after_step(self, access: WeightAccess) -> None:
        """Lift the scale to its floor where a step took it below."""
        scale = access.weight(self.logit_scale)
        access.set_weight(self.logit_scale, scale.clamp(min=SMALLEST_SCALE))


def mixture(
    worst: Tensor,
    eps_input: float,
    scaled_logits: Tensor,
    labels: Tensor,
    weight: float,
    count: float,
) -> Tensor:
    """`max_j clip(t_j, 0, 1) + weight * cross-entropy`, t = worst / (2 eps_input).

    Args:
        worst: (B, K).
        eps_input: radius in input units.
        scaled_logits: (B, K), the learnable scale times the logits.
        labels: int64 (B,).
        weight: of the cross-entropy.
        count: what the sum over the batch is divided by.

    Returns:
        Mean over `count` images. Source: arXiv:2110.06850.
    """
    clipped = (worst / (2 * eps_input)).clamp(0, 1)
    cross_entropy = F.cross_entropy(scaled_logits, labels, reduction="sum")
    return clipped.amax(1).sum() / count + weight * (cross_entropy / count)


LOSS = Mixture
