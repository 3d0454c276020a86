"""What certifies: from uint8 images to exact radii, in whole numbers and in floats alike.

B batch, C channels, H x W pixels, K classes.
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
    """Radius in pixels that matters most: that of the attack."""
    grid: tuple[Fraction, ...]
    """Radii, upwards, that certified images are counted at."""
    device: torch.device
    validation: Callable[[], ImageSet | None]
    """Reads the validation images, for a choice that must not look at test images; None: none."""


class AttackSpace(Protocol):
    """The points around images, a network for gradients, and a judge; all of the same weights."""

    @property
    def surrogates(self) -> tuple[float, ...]:
        """Where gradients are taken unless settings say otherwise, most promising first."""

    @property
    def itself(self) -> float:
        """The surrogate that is the network itself."""

    @property
    def is_box(self) -> bool:
        """Whether every corner of `ball` lies in the ball itself; else no squares are tried."""

    def has_surrogate(self, surrogate: float) -> bool:
        """Whether gradients can be taken there."""

    def logits(self, inputs: Tensor, surrogate: float) -> Tensor:
        """Logits (B, K), differentiable in the inputs, of the network or a smoother surrogate."""

    def ball(self, images: Tensor) -> Box:
        """The box of all points in each image's ball, (B, C, H, W) twice, of uint8 images."""

    def centre(self, images: Tensor) -> Tensor:
        """The images themselves as points."""

    def step(self, points: Tensor, gradient: Tensor, ball: Box) -> Tensor:
        """Points a step further along a gradient, back inside the ball.

        Four steps lead from the image to the edge of the ball.
        """

    def between(self, ball: Box, share: Tensor) -> Tensor:
        """Points at `share`, float32 in [0, 1), of the way from lower to upper."""

    def inputs(self, points: Tensor) -> Tensor:
        """Points as the inputs of `logits`."""

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """Margins, float64 (B,); not above 0 means broken."""


class Certifies(Protocol):
    """Proofs about one network."""

    def certify(self, images: Tensor, labels: Tensor) -> Certificates:
        """Prove what can be proved.

        Args:
            images: uint8 (B, C, H, W).
            labels: int64 (B,).
        """


class Certifier(Certifies, Protocol):
    """Proofs about one network, and where it is attacked."""

    @property
    def attack_space(self) -> AttackSpace:
        """Where the same network is attacked."""

    @property
    def description(self) -> str:
        """The method in few words, e.g. `exact margin+interval`."""

    @property
    def note(self) -> str:
        """What the user is told about the network that is certified."""

    def ship(self, folder: Path) -> "Certifier":
        """Write what is certified, if it is another network than was read; and read it back."""


class Verifier(Protocol):
    """Repeats proofs by other means."""

    def refutes(self, image: Tensor, label: int, radius: Fraction, method: str) -> str:
        """What is wrong with the claim that the label is proved below a radius; empty if nothing.

        Args:
            image: uint8 (C, H, W).
            label: the class.
            radius: in pixels; 0 claims nothing.
            method: what is said to prove it.
        """


class AuditedCertifier(Certifier, Protocol):
    """A certifier whose records can be proved again."""

    @property
    def margin_tolerance(self) -> float:
        """By how much of itself a margin may differ on another machine."""

    @property
    def radius_tolerance(self) -> Fraction:
        """By how much a radius may differ on another machine, in pixels."""

    def verifier(self) -> Verifier:
        """Independent means to repeat its proofs."""
