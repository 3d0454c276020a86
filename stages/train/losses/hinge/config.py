"""Settings of the hinge loss, free of torch."""

from typing import Literal

from pydantic import Field

from stages.train.losses.settings import MarginLossSettings


class HingeSettings(MarginLossSettings):
    """How far worst-case margins fall short, in units of 2 eps (arXiv:2102.05363)."""

    kind: Literal["hinge"]

    mix: float = Field(0.75, ge=0, le=1)
    """Weight of the worst class; the mean over all classes gets the rest."""
