"""What logits say: the margin of the label, and the class that a tie is given to.

B batch, K classes.
"""

import torch
from torch import Tensor


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label minus the largest other logit, rounded down.

    Args:
        logits: float32 or float64 (B, K), K >= 2.
        labels: int64 (B,).

    Returns:
        float64 (B,); NaN where a logit is NaN.
    """
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    difference = own[:, 0] - others.amax(1)
    return difference - difference.abs() * 2.0**-52


def predicted_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Class of the largest logit; a tie goes to the class that is not the label.

    Args:
        logits: (B, K), K >= 2.
        labels: int64 (B,).

    Returns:
        int64 (B,), equal to the label exactly where `margin` is above 0.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    return torch.where(margin(logits, labels) > 0, labels, others)
