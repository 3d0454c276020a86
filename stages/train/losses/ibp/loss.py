"""Cross-entropy of the worst-case logits, mixed with that of the logits themselves."""

import torch.nn.functional as F
from torch import Tensor

from stages.train.losses.ibp.config import IbpSettings
from stages.train.losses.loss import Loss, LossInputs


class Ibp(Loss):
    """`ibp` of a batch."""

    def __init__(self, settings: IbpSettings) -> None:
        super().__init__()
        self._worst_weight = settings.worst_weight

    def forward(self, inputs: LossInputs) -> Tensor:
        """See `Loss`."""
        return ibp(inputs.worst, inputs.logits, inputs.labels, self._worst_weight, inputs.count)


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


LOSS = Ibp
