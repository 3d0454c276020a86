"""Settings of the mixture loss, free of torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.train.losses.settings import MarginLossSettings


class MixtureSettings(MarginLossSettings):
    """Clipped worst-case margin plus a fading cross-entropy of scaled logits (arXiv:2110.06850).

    The clip leaves images alone that cannot be certified any more; the cross-entropy, strong at
    first, keeps their gradient while the network is young.
    """

    kind: Literal["mixture"]

    cross_entropy_start: float = Field(0.1, ge=0)
    """Weight of the cross-entropy until the surrogate starts to become the certified network."""

    cross_entropy_end: float = Field(0.0005, ge=0)
    """Weight of the cross-entropy once it is that network; exponential in between."""

    scale_learning_rate: float = Field(0.006, gt=0)
    """Of the learnable logit scale; follows the cosine of the optimiser's learning rate."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.cross_entropy_start == 0) != (self.cross_entropy_end == 0):
            raise ValueError(
                "cross_entropy_start and cross_entropy_end are joined by an exponential: "
                "both are 0 or neither"
            )
        return self
