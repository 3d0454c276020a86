"""From uint8 pixels to what a network sees, and radii in both units.

A pixel value v in 0..255 of channel c enters as (v / 255 - mean_c) / std. One std serves all
channels, so the l_inf ball of radius eps in pixels is a ball of radius eps / std at the input.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalisation:
    """One mean a channel and one std for all, in pixels of an image in [0, 1]."""

    mean: tuple[float, ...]
    std: float

    def __post_init__(self) -> None:
        figures = (*self.mean, self.std)
        if not self.mean or self.std <= 0 or not all(math.isfinite(x) for x in figures):
            raise ValueError(f"{self} needs finite means, one a channel, and a positive std")

    def apply(self, images: Tensor) -> Tensor:
        """Normalise images.

        Each result is within 2^-22 * max(1, |mean|) / std of the exact value: three roundings of
        float32.

        Args:
            images: uint8 (B, C, H, W), C the number of means.

        Returns:
            float32 (B, C, H, W) on the same device.

        Raises:
            ValueError: images are not uint8, or their channels do not match the means.
        """
        if images.dtype != torch.uint8 or images.shape[1] != len(self.mean):
            raise ValueError(
                f"expected uint8 images of {len(self.mean)} channels, "
                f"got {images.dtype} of shape {tuple(images.shape)}"
            )
        shift = torch.tensor([mean / self.std for mean in self.mean], device=images.device)
        scaled = images.to(torch.float32).mul_(1 / (255 * self.std))
        return scaled.sub_(shift.view(-1, 1, 1))

    def eps_input(self, eps: Fraction) -> float:
        """Radius in the network's input units, rounded up: never smaller than eps / std.

        Args:
            eps: radius in pixels.
        """
        exact = eps / Fraction(self.std)
        nearest = float(exact)
        return nearest if Fraction(nearest) >= exact else math.nextafter(nearest, math.inf)

    def pixel_box(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Least and greatest input that a pixel in [0, 1] can give.

        Returns:
            lower and upper, float32 (C, 1, 1): they broadcast against normalised images. They
            are what `apply` makes of the pixels 0 and 255.
        """
        ends = torch.tensor([[0], [255]], dtype=torch.uint8, device=device)
        lower, upper = self.apply(ends.expand(2, len(self.mean))[..., None, None])
        return lower, upper
