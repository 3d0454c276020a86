"""Losses of robust training, and the module that turns a batch into one of them.

B batch, K classes, y true class; `worst` (B, K) bounds z_j - z_y over the ball, 0 for y.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.models.linf.network import DistanceNetwork
from stages.train.config import HingeLoss, LossSettings, MixtureLoss
from stages.train.schedule import StepValues

SMALLEST_SCALE = 1e-3
"""The logit scale is kept at or above this, so that it never turns cross-entropy around."""


def hinge(worst: Tensor, eps_input: float, mix: float, count: float) -> Tensor:
    """`mix * max_j relu(t_j) + (1 - mix) * mean_j relu(t_j)`, t = worst / (2 eps_input).

    Args:
        worst: (B, K).
        eps_input: radius in input units.
        mix: weight of the worst class, in [0, 1].
        count: what the sum over the batch is divided by.

    Returns:
        Mean over `count` images. Source: arXiv:2102.05363.
    """
    shortfall = worst.relu() / (2 * eps_input)
    of_all = shortfall.sum() / (count * worst.shape[1])
    return mix * (shortfall.amax(1).sum() / count) + (1 - mix) * of_all


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


def ibp(worst: Tensor, logits: Tensor, labels: Tensor, worst_weight: float, count: float) -> Tensor:
    """`(1 - worst_weight) * CE(logits) + worst_weight * CE(worst-case logits)`.

    Cross-entropy does not change when all logits move together, so `worst` serves as the
    worst-case logits.

    Args:
        worst: (B, K).
        logits: (B, K).
        labels: int64 (B,).
        worst_weight: in [0, 1].
        count: what the sum over the batch is divided by.

    Returns:
        Mean over `count` images. Source: arXiv:2102.05363, section 5.
    """
    clean = F.cross_entropy(logits, labels, reduction="sum") / count
    robust = F.cross_entropy(worst, labels, reduction="sum") / count
    return (1 - worst_weight) * clean + worst_weight * robust


class StepOutput(NamedTuple):
    """What one forward pass of training gives."""

    loss: Tensor
    """Scalar: sum over this rank's images, divided by the ranks' mean number of images; so the mean
    of the ranks' losses is the mean over the global batch, though their shares may differ."""
    num_correct: Tensor
    """int64 scalar: images whose largest logit is the true class."""


class Objective(nn.Module):
    """Network and loss in one module, so that one forward pass is all that DeepSpeed sees.

    Args:
        network: what is trained.
        settings: which loss.
        eps_input: eps_train in input units; a step uses its share of it.
    """

    def __init__(self, network: DistanceNetwork, settings: LossSettings, eps_input: float) -> None:
        super().__init__()
        self.network = network
        self.settings = settings
        self.eps_input = eps_input
        is_scaled = isinstance(settings, MixtureLoss)
        # One element, not zero-dimensional: DeepSpeed broadcasts parameters as bytes.
        self.logit_scale = nn.Parameter(torch.ones(1)) if is_scaled else None

    def forward(
        self, images: Tensor, labels: Tensor, moment: StepValues, mean_count: float
    ) -> StepOutput:
        """Loss of one batch of normalised images (B, C, H, W) with labels int64 (B,).

        `mean_count` divides the sum over the batch: B, unless the ranks' shares differ.
        """
        eps_input = self.eps_input * moment.radius_share
        logits, worst = self.network.worst_case(images, labels, moment.p, eps_input)
        loss = self._loss(logits, worst, labels, eps_input, moment, mean_count)
        with torch.no_grad():
            num_correct = (logits.argmax(1) == labels).sum()
        return StepOutput(loss, num_correct)

    def _loss(
        self,
        logits: Tensor,
        worst: Tensor,
        labels: Tensor,
        eps_input: float,
        moment: StepValues,
        count: float,
    ) -> Tensor:
        if isinstance(self.settings, HingeLoss):
            return hinge(worst, eps_input, self.settings.mix, count)
        if isinstance(self.settings, MixtureLoss):
            assert self.logit_scale is not None
            scaled = self.logit_scale * logits
            weight = moment.cross_entropy_weight
            return mixture(worst, eps_input, scaled, labels, weight, count)
        return ibp(worst, logits, labels, self.settings.worst_weight, count)
