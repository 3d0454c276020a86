"""How far worst-case margins fall short, in units of 2 eps."""

from torch import Tensor

from stages.train.losses.hinge.config import HingeSettings
from stages.train.losses.loss import Loss, LossInputs


class Hinge(Loss):
    """`hinge` of a batch."""

    def __init__(self, settings: HingeSettings) -> None:
        super().__init__()
        self._mix = settings.mix

    def forward(self, inputs: LossInputs) -> Tensor:
        """See `Loss`."""
        return hinge(inputs.worst, inputs.eps_input, self._mix, inputs.count)


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


LOSS = Hinge
