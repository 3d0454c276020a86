"""What the settings of a loss have in common, free of torch."""

from typing import Any

from pipeline.spec.settings import Settings
from stages.models.config import NetworkSettings
from stages.train.radius_ramp import RadiusSettings


class LossSettings(Settings):
    """Settings of a loss that any network and any radius may be trained with."""

    kind: Any

    def check(self, network: NetworkSettings, radius: RadiusSettings) -> None:
        """Refuse a network or a ramp of the radius that the loss cannot be used with.

        Raises:
            ValueError: says which and why.
        """


class MarginLossSettings(LossSettings):
    """Settings of a loss that measures margins in units of twice the radius."""

    def check(self, network: NetworkSettings, radius: RadiusSettings) -> None:
        """The margin must be a certificate, and the radius never 0."""
        if not network.is_lipschitz:
            raise ValueError(
                f"loss {self.kind} is for a network whose logits are 1-Lipschitz, such as a "
                f"distance_mlp; a {network.kind} takes ibp"
            )
        if radius.share_at(0) == 0:
            raise ValueError(
                f"loss {self.kind} divides by the radius, which a {radius.kind} ramp "
                "starts at 0; use radius {kind: constant}, or loss ibp"
            )
