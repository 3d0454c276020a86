"""Settings of the certify stage, free of torch."""

import math
from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings
from pipeline.spec.settings import Settings as FrozenSettings
from stages.data.radius import ExactFraction

Norm = Annotated[float, Field(ge=2, le=1000)] | Literal["inf"]
"""Exponent of a distance layer, from 2 to 1000, or `inf`."""


class Inputs(StageInputs):
    """What certification reads."""

    data: Annotated[str, Kinds("shard")]
    """The shard stage whose images are certified."""

    network: Annotated[str, Kinds("train", "prune")]
    """The stage that made the network."""


class AttackSettings(FrozenSettings):
    """Tries to break every image that is right and not certified; what survives bounds from above.

    A try is one projected descent with one loss, the gradient taken through the network at one p.
    Each image is tried once for every (restart, loss, p) until it breaks, then by random squares.
    Success is judged on the network at p = infinity, whose own gradient is too sparse to follow
    far. The verdict of the plainest try (one start, cross-entropy, that own gradient) is kept
    apart.
    """

    steps: int = Field(100, ge=1)
    """Steps of eps/4 a try. Time grows in proportion, for the few images that stand so long."""

    restarts: int = Field(2, ge=1)
    """Tries for each loss and p. The first restart starts at the image, others anywhere in the
    ball."""

    p: tuple[Norm, ...] = Field((128.0, 32.0, 8.0, "inf"), min_length=1)
    """Where gradients are taken, most promising first; a finite p makes the gradient dense."""

    losses: tuple[Literal["ce", "margin"], ...] = Field(("ce", "margin"), min_length=1)
    """What is climbed, most promising first: cross-entropy, or the negative margin."""

    square_queries: int = Field(200, ge=0)
    """Random squares tried on each image that stands after all descents: a search that needs no
    gradient. 0 leaves it out."""

    certified_steps: int = Field(5, ge=1)
    """Steps on images that are certified, in the first try only. They cannot break one unless a
    certificate is wrong, which fails the stage; after 4 steps the edge of the ball is reached, and
    most images that can break have broken. Most images are certified, so this sets the cost."""

    @field_validator("p", "losses")
    @classmethod
    def _each_once(cls, values: tuple[float | str, ...]) -> tuple[float | str, ...]:
        doubled = sorted({str(value) for value in values if values.count(value) > 1})
        if doubled:
            raise ValueError(f"{', '.join(doubled)} is given twice; use restarts to try again")
        return values

    @property
    def exponents(self) -> tuple[float, ...]:
        """`p` as numbers."""
        return tuple(math.inf if p == "inf" else p for p in self.p)


class Settings(StageSettings):
    """Certify and attack every image of a split at p = infinity; one row an image."""

    code_packages: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")

    inputs: Inputs

    split: Literal["test", "validation", "train"] = "test"
    """Which images. Settings are chosen on `validation`; `test` is for the result."""

    eps: ExactFraction
    """Radius in pixels that images are certified and attacked at."""

    eps_grid: tuple[ExactFraction, ...] | None = Field(None, max_length=1000)
    """More radii to count certified images at; default: 0 to 2 eps in steps of eps/8. The interval
    certificate tries these radii, so a fine grid costs time."""

    method: Literal["exact", "float"] = "exact"
    """`exact` rounds the network to whole numbers once and certifies that network, without any
    rounding, so the result is the same on every machine; it is written beside the records, and is
    what to ship. `float` certifies the float32 network as it runs here, less all that rounding
    could do."""

    fraction_bits: int | None = Field(None, ge=0, le=16)
    """For `exact`: how fine the whole numbers are, 1 / (255 * 2^bits) of a pixel. Default: as fine
    as 16-bit numbers allow if no accuracy of the validation images moves by more than 0.05 points,
    else as coarse as 32-bit numbers need for that. Without validation images it is 12."""

    certificates: tuple[Literal["margin", "interval"], ...] = Field(
        ("margin", "interval"), min_length=1
    )
    """What is tried to prove an image; one of them has to. `margin` costs one forward pass.
    `interval` never proves less: it leaves out the part of the ball that is no valid image. It
    costs about 2 + `radius_steps` passes with bounds, spent where the margin has not decided."""

    radius_steps: int = Field(3, ge=0, le=40)
    """Bisections of the interval certificate's radius between two radii of the grid. 0 leaves the
    largest radius of the grid that is proved, or the margin's; accuracies do not depend on it."""

    attack: AttackSettings = AttackSettings()

    batch_size: int = Field(500, ge=1)
    """Images at a time on a rank; a killed run goes on from its last whole batch."""

    seed: int = Field(0, ge=0)
    """Decides where the attack's later restarts start."""

    @field_validator("eps")
    @classmethod
    def _is_a_ball(cls, eps: Fraction) -> Fraction:
        if eps == 0:
            raise ValueError("eps is 0, a ball of one image; write a positive fraction like 8/255")
        return eps

    @field_validator("certificates")
    @classmethod
    def _each_once(cls, certificates: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(certificates)) < len(certificates):
            raise ValueError("a certificate is given twice")
        return certificates

    @property
    def description(self) -> str:
        """The method and its certificates in few words, e.g. `exact margin+interval`."""
        return f"{self.method} {'+'.join(self.certificates)}"

    def grid(self) -> tuple[Fraction, ...]:
        """The radii of `eps_grid` and `eps`, upwards, each once."""
        grid = self.eps_grid
        if grid is None:
            grid = tuple(min(self.eps * step / 8, Fraction(1)) for step in range(17))
        return tuple(sorted({*grid, self.eps}))
