"""Everything that changes from step to step, as a function of the step alone.

That no state is involved makes a resumed run follow the very same course.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stages.models.family import Surrogate, TrainingRule
from stages.train.config import Settings
from stages.train.losses.loss import Loss


@dataclass(frozen=True)
class StepValues:
    """What one training step uses."""

    surrogate: Surrogate
    """What the family trains in place of the network that will be certified."""
    loss: Mapping[str, float]
    """Values of the loss."""
    radius_share: float
    """Part of eps_train in use, in [0, 1]."""
    learning_rate: float
    loss_learning_rate: float
    """Of the loss's own parameters."""

    @property
    def columns(self) -> dict[str, float]:
        """What the family and the loss show of this step."""
        return {**self.surrogate.columns, **self.loss}


@dataclass(frozen=True)
class Schedule:
    """The course of a run."""

    settings: Settings
    steps_per_epoch: int
    rule: TrainingRule
    loss: Loss

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.settings.schedule.epochs * self.steps_per_epoch

    def is_multiple(self, num_done: int, epochs: float) -> bool:
        """Whether `num_done` steps are a whole number of intervals of so many epochs."""
        return num_done % max(1, round(epochs * self.steps_per_epoch)) == 0

    def at(self, step: int) -> StepValues:
        """What the step number `step`, counted from 0, uses."""
        epoch = step / self.steps_per_epoch
        schedule = self.settings.schedule
        cosine = cosine_factor(epoch, schedule.cosine_start_epoch, schedule.epochs)
        surrogate = self.rule.surrogate_at(epoch)
        return StepValues(
            surrogate,
            self.loss.at(surrogate.rise),
            self.settings.radius.share_at(epoch),
            self.settings.optimiser.learning_rate * cosine,
            self.loss.learning_rate * cosine,
        )


def cosine_factor(epoch: float, start: float, end: float) -> float:
    """1 until `start`, then half a cosine to 0 at `end`."""
    done = min(max((epoch - start) / (end - start), 0.0), 1.0)
    return (1 + math.cos(math.pi * done)) / 2
