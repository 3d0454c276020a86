"""What follows for the label of a hybrid from where its features can be.

B batch, F features, K classes.
"""

from collections.abc import Callable

from torch import Tensor

from kernels.layers import Box
from stages.models.linf.head_bounds import FEW, HeadBounds


class HeadProver:
    """Proofs through the head for features that are known up to an error.

    Args:
        head: bounds of the head.
        error: on any |feature as computed - real feature|.
        largest: bound on any |feature as computed|.
    """

    def __init__(self, head: HeadBounds, error: float, largest: float) -> None:
        self._head = head
        # Features round twice: where they were measured, and where the perturbed image is judged.
        self._feature_slack = 2 * error
        self._logit_slack = 2 * head.evaluation_error(largest)

    def logits(self, features: Tensor) -> Tensor:
        """The logits that are judged: float64 (B, K) of features float64 (B, F)."""
        return self._head.logits(features)

    def prover_around(self, features: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """A function that says of how wide a cube of features the label is proved.

        Args:
            features: float64 (B, F), centres of the cubes.
            labels: int64 (B,).

        Returns:
            From half-widths, float64 (B,), to whether the label is proved there, bool (B,).
        """
        middle, error = self._head.before_tanh(features)

        def proves(half_width: Tensor) -> Tensor:
            reach = self._head.spread((half_width + self._feature_slack)[:, None]) + error
            return self._is_proof(self._head.worst_difference(middle, reach, labels))

        return proves

    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        """Whether the label is proved for all features in a box.

        Args:
            box: float64 (B, F) ends, lower <= upper.
            labels: int64 (B,).

        Returns:
            bool (B,).
        """
        lower, upper = box
        half_width = (upper - lower) / 2 + self._feature_slack + FEW * (lower.abs() + upper.abs())
        middle, error = self._head.before_tanh((lower + upper) / 2)
        reach = self._head.spread(half_width) + error
        return self._is_proof(self._head.worst_difference(middle, reach, labels))

    def _is_proof(self, worst: Tensor) -> Tensor:
        return (worst < -self._logit_slack) & worst.isfinite()
