"""Settings of the ibp loss, free of torch."""

from typing import Literal

from pydantic import Field

from stages.train.losses.settings import LossSettings


class IbpSettings(LossSettings):
    """Cross-entropy of the worst-case logits, mixed with that of the logits themselves."""

    kind: Literal["ibp"]

    worst_weight: float = Field(0.5, ge=0, le=1)
    """Weight of the worst-case term; the clean term gets the rest."""
