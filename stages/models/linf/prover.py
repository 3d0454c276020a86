"""What proofs in floats and in whole numbers have in common: radii are counted in ticks.

B batch, C channels, H x W pixels.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import NamedTuple

from torch import Tensor


class MarginProof(NamedTuple):
    """What the unchanged images say, and what follows for their balls."""

    predicted: Tensor
    """int64 (B,): class of the largest logit; a tie goes against the label."""
    margin: Tensor
    """float64 (B,): logit of the label minus the largest other; above 0 exactly where it is right.
    In the units of the float32 network's logits."""
    radius: Tensor
    """(B,) in ticks: proved at every eps < radius, strictly; 0 proves nothing."""


class Prover(ABC):
    """What can be proved about one network; ticks are float64 or int64."""

    ticks_per_pixel: int

    @abstractmethod
    def by_margin(self, images: Tensor, labels: Tensor) -> MarginProof:
        """Predict, and prove what follows from the distance layers being 1-Lipschitz.

        Args:
            images: uint8 (B, C, H, W).
            labels: int64 (B,).
        """

    @abstractmethod
    def by_box(self, images: Tensor, ticks: Tensor, labels: Tensor) -> Tensor:
        """Push the ball's valid images through as a box.

        Args:
            images: uint8 (B, C, H, W).
            ticks: (B,), radius of the ball.
            labels: int64 (B,).

        Returns:
            (B,) in ticks: a proved radius, at least `ticks`; 0 where the box is not proved.
        """

    @abstractmethod
    def level_above(self, eps: Fraction) -> float | int:
        """The smallest radius in ticks above `eps`: a proof there is a proof at it."""
