"""What every loss is: a module that turns logits and worst-case differences into a number.

B batch, K classes, y true class; `worst` (B, K) bounds z_j - z_y over the ball, 0 for y.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class WeightAccess(Protocol):
    """Whole parameters, wherever a ZeRO stage has put their parts."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter; it may be the live one."""

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set the whole parameter, the same on every rank."""


@dataclass(frozen=True)
class LossInputs:
    """What the loss of a batch is computed from."""

    logits: Tensor
    """(B, K)."""
    worst: Tensor
    """(B, K)."""
    labels: Tensor
    """int64 (B,)."""
    eps_input: float
    """Radius of the ball in input units."""
    values: Mapping[str, float]
    """What `Loss.at` gave for this step."""
    count: float
    """What the sum over the batch is divided by."""


class Loss(nn.Module, ABC):
    """A loss and the parameters that are learnt with it; they do not decay."""

    learning_rate = 0.0
    """Of its own parameters at the start of the cosine."""

    @abstractmethod
    def forward(self, inputs: LossInputs) -> Tensor:
        """The scalar loss: a sum over the batch, divided by `count`."""

    def at(self, rise: float) -> Mapping[str, float]:
        """Its values at a step, also shown in the history; `rise` as in `family.Surrogate`."""
        return {}

    def columns(self) -> Mapping[str, float]:
        """What the history shows of its parameters."""
        return {}

    def after_step(self, access: WeightAccess) -> None:
        """Correct its parameters after the optimiser has moved them."""


def build_loss(settings: Any) -> Loss:
    """The loss that the settings describe."""
    loss: Loss = importlib.import_module(f"stages.train.losses.{settings.kind}.loss").LOSS(settings)
    return loss
