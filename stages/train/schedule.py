"""Everything that changes from step to step, as a function of the step alone.

That no state is involved makes a resumed run follow the very same course.
"""

import math
from dataclasses import dataclass

from stages.train.config import (
    LossSettings,
    MixtureLoss,
    RadiusSettings,
    ScheduleSettings,
    Settings,
    SmoothRadius,
)


@dataclass(frozen=True)
class StepValues:
    """What one training step is to use."""

    p: float
    """Norm of the distance layers; math.inf at the end."""
    radius_share: float
    """Part of eps_train in use, in [0, 1]."""
    learning_rate: float
    scale_learning_rate: float
    cross_entropy_weight: float
    """lambda of the mixture loss; 0 for other losses."""


@dataclass(frozen=True)
class Schedule:
    """The course of a run."""

    settings: Settings
    steps_per_epoch: int

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.settings.schedule.epochs * self.steps_per_epoch

    def is_multiple(self, num_done: int, epochs: float) -> bool:
        """Whether `num_done` steps are a whole number of intervals of so many epochs."""
        return num_done % max(1, round(epochs * self.steps_per_epoch)) == 0

    def at(self, step: int) -> StepValues:
        """What the step number `step`, counted from 0, is to use."""
        epoch = step / self.steps_per_epoch
        schedule, optimiser = self.settings.schedule, self.settings.optimiser
        cosine = cosine_factor(epoch, schedule.cosine_start_epoch, schedule.epochs)
        return StepValues(
            p=p_at(epoch, schedule),
            radius_share=radius_share_at(epoch, self.settings.radius),
            learning_rate=optimiser.learning_rate * cosine,
            scale_learning_rate=optimiser.scale_learning_rate * cosine,
            cross_entropy_weight=cross_entropy_weight_at(epoch, schedule, self.settings.loss),
        )


def p_at(epoch: float, schedule: ScheduleSettings) -> float:
    """p_start, then an exponential rise to p_end, then infinity."""
    if epoch >= schedule.p_infinite_epoch:
        return math.inf
    ratio = schedule.p_end / schedule.p_start
    return schedule.p_start * math.pow(ratio, _rise(epoch, schedule))


def cross_entropy_weight_at(epoch: float, schedule: ScheduleSettings, loss: LossSettings) -> float:
    """cross_entropy_start, then exponential beside the rise of p, then cross_entropy_end."""
    if not isinstance(loss, MixtureLoss) or loss.cross_entropy_start == 0:
        return 0.0
    ratio = loss.cross_entropy_end / loss.cross_entropy_start
    return loss.cross_entropy_start * math.pow(ratio, _rise(epoch, schedule))


def cosine_factor(epoch: float, start: float, end: float) -> float:
    """1 until `start`, then half a cosine to 0 at `end`."""
    done = _clip((epoch - start) / (end - start))
    return (1 + math.cos(math.pi * done)) / 2


def radius_share_at(epoch: float, radius: RadiusSettings) -> float:
    """Part of eps_train in use.

    The smooth ramp is a x^4 up to x = m, then its tangent, with a such that x = 1 gives 1:
    a = 1 / (m^3 (4 - 3 m)) (arXiv:1906.06316).
    """
    if radius.kind == "constant":
        return 1.0
    x = _clip(epoch / radius.epochs)
    if not isinstance(radius, SmoothRadius):
        return x
    m = radius.quartic_share
    a = 1 / (m**3 * (4 - 3 * m))
    return a * x**4 if x < m else a * (m**4 + 4 * m**3 * (x - m))


def _rise(epoch: float, schedule: ScheduleSettings) -> float:
    """How much of the rise of p is done, in [0, 1]."""
    start, end = schedule.p_rise_epoch, schedule.p_infinite_epoch
    if epoch >= end:
        return 1.0
    return _clip((epoch - start) / (end - start)) if epoch > start else 0.0


def _clip(share: float) -> float:
    return min(max(share, 0.0), 1.0)
