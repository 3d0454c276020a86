"""The search for the largest sparsity that keeps validation accuracy."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import UserError
from stages.models.validation import Counts
from stages.prune.trials import Trial


@dataclass(frozen=True)
class Limits:
    """How many validation images have to stay right, and certified."""

    num_correct: int
    num_certified: int

    @classmethod
    def within(cls, tolerance: float, before: Counts) -> "Limits":
        """Both accuracies may fall by at most `tolerance`."""
        allowed = int(tolerance * before.num_images + 1e-9)
        return cls(before.num_correct - allowed, before.num_certified - allowed)

    def hold(self, counts: Counts) -> bool:
        """Whether so many are right and certified."""
        return counts.num_correct >= self.num_correct and counts.num_certified >= self.num_certified


def shares_to_try(unused: float, num_points: int) -> list[float]:
    """Sparsities for the curve: from all unused edges on, those kept fall by one factor a point.

    Args:
        unused: share of the edges that decide for no image at all; dropping them changes little.
        num_points: how many; the last one keeps a tenth of the used edges.
    """
    used = 1 - unused
    return [1 - used * 0.1 ** (step / (num_points - 1)) for step in range(num_points)]


def largest_sparsity(
    attempt: Callable[[float], Trial], curve: list[tuple[float, Trial]], limits: Limits, steps: int
) -> Trial:
    """The trial of largest sparsity that keeps the limits.

    Args:
        attempt: prunes to a share and judges.
        curve: shares and their trials, upwards.
        limits: what a trial has to keep.
        steps: halvings of the gap between the last share that keeps them and the next one.

    Raises:
        UserError: no share of the curve keeps them.
    """
    kept = [number for number, (_, trial) in enumerate(curve) if limits.hold(trial.counts)]
    if not kept:
        share, trial = curve[0]
        raise UserError(
            f"even dropping the {share:.2%} of edges that decide for no training image costs more "
            f"than the tolerance: {trial.counts.num_correct:,} validation images stay right and "
            f"{trial.counts.num_certified:,} certified, wanted are {limits.num_correct:,} and "
            f"{limits.num_certified:,}. Choose a larger tolerance, or a sparsity"
        )
    low, best = curve[kept[-1]]
    if kept[-1] + 1 == len(curve):
        return best
    high = curve[kept[-1] + 1][0]
    for _ in range(steps):
        middle = (low + high) / 2
        trial = attempt(middle)
        if limits.hold(trial.counts):
            low, best = middle, trial
        else:
            high = middle
    return best
