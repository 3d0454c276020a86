"""Which loss: the union of all losses' settings, free of torch."""

from typing import Annotated

from pydantic import Field

from stages.train.losses.hinge.config import HingeSettings
from stages.train.losses.ibp.config import IbpSettings
from stages.train.losses.mixture.config import MixtureSettings

AnyLossSettings = Annotated[
    HingeSettings | MixtureSettings | IbpSettings, Field(discriminator="kind")
]
