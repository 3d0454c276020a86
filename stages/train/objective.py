"""The module that turns a batch into a loss: a network, its family's training rule, and a loss."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stages.models.family import TrainingRule, family_of
from stages.train.config import Settings
from stages.train.losses.loss import Loss, LossInputs, build_loss
from stages.train.schedule import StepValues


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
        rule: of the network's family, for this network.
        loss: with its own parameters.
        eps_input: eps_train in input units; a step uses its share of it.
    """

    def __init__(self, network: Any, rule: TrainingRule, loss: Loss, eps_input: float) -> None:
        super().__init__()
        self.network: Any = network
        self.rule = rule
        self.loss = loss
        self.eps_input = eps_input

    def forward(
        self, images: Tensor, labels: Tensor, values: StepValues, mean_count: float
    ) -> StepOutput:
        """Loss of one batch of normalised images (B, C, H, W) with labels int64 (B,).

        `mean_count` divides the sum over the batch: B, unless the ranks' shares differ.
        """
        eps_input = self.eps_input * values.radius_share
        logits, worst = self.rule.worst_case(images, labels, values.surrogate, eps_input)
        loss = self.loss(LossInputs(logits, worst, labels, eps_input, values.loss, mean_count))
        with torch.no_grad():
            num_correct = (logits.argmax(1) == labels).sum()
        return StepOutput(loss, num_correct)


def build_objective(
    settings: Settings, image_shape: Sequence[int], num_classes: int, eps_input: float
) -> Objective:
    """What the settings train, freshly initialised from torch's generator.

    Args:
        settings: of the stage.
        image_shape: (H, W, C).
        num_classes: K.
        eps_input: eps_train in input units.
    """
    family = family_of(settings.network)
    network = family.build(settings.network, image_shape, num_classes)
    rule = family.training(network, settings.rule)
    return Objective(network, rule, build_loss(settings.loss), eps_input)
