"""Balls of valid images around images, as boxes of network inputs whose rounding has a direction.

B batch, C channels, H x W pixels, v a pixel value in 0..255. The ball of radius eps holds the
images whose every pixel is in [0, 1] and within eps of v / 255.
"""

from fractions import Fraction

import torch
from torch import Tensor

from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.images import Normalisation

ROOM = 2.0**-48
"""Covers the float64 roundings between a pixel and its normalised value."""


def box_around(images: Tensor, radius: Tensor, normalisation: Normalisation) -> Box:
    """Inputs that a perturbation within the radius can reach, rounded outwards: for proofs.

    Args:
        images: uint8 (B, C, H, W).
        radius: float64 (B,), in pixels.
        normalisation: what the network expects.

    Returns:
        float32 (B, C, H, W) twice; every valid image of the closed ball lies inside.
    """
    pixels = images.double() / 255
    reach = radius.view(-1, 1, 1, 1)
    mean = torch.tensor(normalisation.mean, dtype=torch.float64, device=images.device)
    room = ROOM * (1 + mean.abs().max().item()) / normalisation.std

    def to_input(end: Tensor) -> Tensor:
        return (end - mean.view(-1, 1, 1)) / normalisation.std

    lower = to_input((pixels - reach).clamp(min=0)) - room
    upper = to_input((pixels + reach).clamp(max=1)) + room
    return Box(
        torch.nextafter(lower.float(), torch.tensor(-torch.inf, device=images.device)),
        torch.nextafter(upper.float(), torch.tensor(torch.inf, device=images.device)),
    )


class InnerBall:
    """The float32 inputs inside the ball of one radius, rounded inwards: for attacks.

    A pixel has 256 values, so both ends are looked up in tables that were computed with exact
    fractions: an input between them is inside the ball without any "up to rounding".
    """

    def __init__(self, eps: Fraction, normalisation: Normalisation, device: torch.device) -> None:
        """Tabulate the ends.

        Raises:
            UserError: between the ends of some pixel there is no float32 number.
        """
        self.eps = eps
        ends = [_ends(eps, mean, normalisation.std) for mean in normalisation.mean]
        self._lower, self._upper = torch.tensor(ends, device=device).unbind(1)
        if (self._lower > self._upper).any():
            raise UserError(
                f"eps {eps} is finer than float32 can tell apart: no attack can be made of it; "
                "choose a larger eps"
            )

    def around(self, images: Tensor) -> Box:
        """The largest float32 box inside each image's ball.

        Args:
            images: uint8 (B, C, H, W).
        """
        values = images.long()
        channels = range(values.shape[1])
        return Box(
            *(
                torch.stack([table[channel][values[:, channel]] for channel in channels], 1)
                for table in (self._lower, self._upper)
            )
        )


def _ends(eps: Fraction, mean: float, std: float) -> tuple[list[float], list[float]]:
    """For each v both ends of the ball at a network's input, in float32, rounded inwards."""
    lower, upper = [], []
    for value in range(256):
        pixel = Fraction(value, 255)
        least, most = max(pixel - eps, Fraction(0)), min(pixel + eps, Fraction(1))
        lower.append(_float32(_normalised(least, mean, std), towards=torch.inf))
        upper.append(_float32(_normalised(most, mean, std), towards=-torch.inf))
    return lower, upper


def _normalised(pixel: Fraction, mean: float, std: float) -> Fraction:
    return (pixel - Fraction(mean)) / Fraction(std)


def _float32(exact: Fraction, towards: float) -> float:
    """The float32 number nearest to `exact` on the side of infinity or minus infinity."""
    found = torch.tensor(float(exact), dtype=torch.float32)
    direction = torch.tensor(towards)
    while (Fraction(found.item()) < exact) if towards > 0 else (Fraction(found.item()) > exact):
        found = torch.nextafter(found, direction)
    return found.item()
