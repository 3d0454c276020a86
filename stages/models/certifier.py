"""What certifies: from uint8 images to exact radii, in whole numbers and in floats alike.

B batch, C channels, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from kernels.layers import Box
from stages.data.in_memory import ImageSet


@dataclass(frozen=True)
class Certificates:
    """What is proved of each image of a batch."""

    predicted: Tensor
    """int64 (B,): class of the largest logit; a tie goes against the label."""
    margin: Tensor
    """float64 (B,): logit of the label minus the largest other; above 0 where it is right."""
    radius: list[Fraction]
    """In pixels: proved at every eps < radius, strictly; 0 where nothing is proved."""
    method: list[str]
    """What proved the radius: `margin`, `interval`, ... or `none`."""
    within_slack: list[bool]
    """Not proved at the run's eps only because of what is allowed for rounding."""


@dataclass(frozen=True)
class CertifyTask:
    """What a certifier is made for."""

    loaded: Any
    """`network_file.LoadedNetwork`: the network and all that is known about it."""
    settings: Any
    """Of the certifier: a member of the union `config.CertifierSettings`."""
    eps: Fraction
    """Radius in pixels that matters most."""
    grid: tuple[Fraction, ...]
    """Radii, upwards, that certified images are counted at."""
    device: torch.device
    validation: Callable[[], ImageSet | None]
    """Reads the validation images, for a choice that must not look at test images; None: none."""


class AttackSpace(Protocol):
    """The points around images, a network for gradients, and a judge; all of the same weights."""

    surrogates: tuple[float, ...]
    """Where gradients may be taken, most promising first; the last is the network itself."""

    def ball(self, images: Tensor) -> Box:
        """The box of all points in each image's ball, (B, C, H, W) twice, of uint8 images."""

    def centre(self, images: Tensor) -> Tensor:
        """The images themselves as points."""

    def step(self, points: Tensor, uphill: Tensor, ball: Box) -> Tensor:
        """Points a step further along a gradient, back inside the ball."""

    def between(self, ball: Box, share: Tensor) -> Tensor:
        """Points at `share`, float32 in [0, 1), of the way from lower to upper."""

    def inputs(self, points: Tensor) -> Tensor:
        """Points as the inputs of `logits`."""

    def logits(self, inputs: Tensor, surrogate: float) -> Tensor:
        """Logits (B, K), differentiable in the inputs, of the network or a smoother surrogate."""

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """Margins, float64 (B,); not above 0 means broken."""


class Certifier(Protocol):
    """Proofs about one network."""

    attack_space: AttackSpace
    description: str
    """The method in few words, e.g. `exact margin+interval`."""

    def certify(self, images: Tensor, labels: Tensor) -> Certificates:
        """Prove what can be proved of uint8 images (B, C, H, W) with labels int64 (B,)."""

    def ship(self, folder: Path) -> "Certifier":
        """Write what was certified, if it is another network; returns the certifier read back."""
