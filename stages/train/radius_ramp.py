"""How the radius in the loss grows to eps_train: settings, free of torch."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.spec.settings import Settings


class ConstantRadius(Settings):
    """eps_train from the first step on."""

    kind: Literal["constant"]

    def share_at(self, epoch: float) -> float:
        """Part of eps_train in use, in [0, 1]."""
        return 1.0


class LinearRadius(Settings):
    """From 0 to eps_train in a straight line."""

    kind: Literal["linear"]

    epochs: float = Field(gt=0)
    """When eps_train is reached."""

    def share_at(self, epoch: float) -> float:
        """Part of eps_train in use, in [0, 1]."""
        return min(max(epoch / self.epochs, 0.0), 1.0)


class SmoothRadius(Settings):
    """From 0 to eps_train, at first like the fourth power of time, then in a straight line."""

    kind: Literal["smooth"]

    epochs: float = Field(gt=0)
    """When eps_train is reached."""

    quartic_share: float = Field(0.4, gt=0, le=1)
    """Part of the ramp that is curved."""

    def share_at(self, epoch: float) -> float:
        """Part of eps_train in use: a x^4 up to x = m, then its tangent.

        a = 1 / (m^3 (4 - 3 m)) makes it 1 at x = 1 (arXiv:1906.06316).
        """
        x = min(max(epoch / self.epochs, 0.0), 1.0)
        m = self.quartic_share
        a = 1 / (m**3 * (4 - 3 * m))
        return a * x**4 if x < m else a * (m**4 + 4 * m**3 * (x - m))


RadiusSettings = Annotated[
    ConstantRadius | LinearRadius | SmoothRadius, Field(discriminator="kind")
]
