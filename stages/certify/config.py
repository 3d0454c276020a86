"""Settings of the certify stage, free of torch."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings
from pipeline.spec.settings import Settings as FrozenSettings
from stages.data.radius import ExactFraction, Norm
from stages.models.config import CertifierSettings


class Inputs(StageInputs):
    """What certification reads."""

    data: Annotated[str, Kinds("shard")]
    """The shard stage whose images are certified."""

    network: Annotated[str, Kinds("train", "prune")]
    """The stage that made the network."""


class AttackSettings(FrozenSettings):
    """Tries to break every image that is right and not certified; what survives bounds from above.

    A try is one projected descent with one loss, the gradient taken through the network or a
    smoother surrogate of it. Each image is tried once for every (restart, loss, surrogate) until
    it breaks, then by random squares. Success is judged on the network itself. The verdict of the
    plainest try (one start, cross-entropy, the network's own gradient) is kept apart.
    """

    steps: int = Field(100, ge=1)
    """Steps of eps/4 a try. Time grows in proportion, for the few images that stand so long."""

    restarts: int = Field(2, ge=1)
    """Tries for each loss and surrogate. The first restart starts at the image, others anywhere in
    the ball."""

    surrogates: tuple[Annotated[float, Field(gt=0)] | Literal["inf"], ...] | None = Field(
        None, min_length=1
    )
    """Where gradients are taken, most promising first, as the network's family counts: the norm of
    the layers of a distance network, `inf` being the network itself. Default: the family's own."""

    losses: tuple[Literal["ce", "margin"], ...] = Field(("ce", "margin"), min_length=1)
    """What is climbed, most promising first: cross-entropy, or the negative margin."""

    square_queries: int = Field(200, ge=0)
    """Random squares tried on each image that stands after all descents: a search that needs no
    gradient. 0 leaves it out."""

    certified_steps: int = Field(5, ge=1)
    """Steps on images that are certified, in the first try only. They cannot break one unless a
    certificate is wrong, which fails the stage; after 4 steps the edge of the ball is reached, and
    most images that can break have broken. Most images are certified, so this sets the cost."""

    @field_validator("surrogates", "losses")
    @classmethod
    def _each_once(cls, values: tuple[float | str, ...] | None) -> tuple[float | str, ...] | None:
        given = values or ()
        doubled = sorted({str(value) for value in given if given.count(value) > 1})
        if doubled:
            raise ValueError(f"{', '.join(doubled)} is given twice; use restarts to try again")
        return values


class Settings(StageSettings):
    """Certify and attack every image of a split; one row an image."""

    code_packages: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")

    inputs: Inputs

    split: Literal["test", "validation", "train"] = "test"
    """Which images. Settings are chosen on `validation`; `test` is for the result."""

    norm: Norm = "linf"
    """Of the balls around images."""

    eps: ExactFraction
    """Radius in pixels that images are certified and attacked at."""

    eps_grid: tuple[ExactFraction, ...] | None = Field(None, max_length=1000)
    """More radii to count certified images at; default: 0 to 2 eps in steps of eps/8. The interval
    certificate tries these radii, so a fine grid costs time."""

    certifier: CertifierSettings = Field({"kind": "exact"}, validate_default=True)
    """What proves, by the network's family."""

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

    def grid(self) -> tuple[Fraction, ...]:
        """The radii of `eps_grid` and `eps`, upwards, each once."""
        grid = self.eps_grid
        if grid is None:
            largest = Fraction(1) if self.norm == "linf" else 2 * self.eps
            grid = tuple(min(self.eps * step / 8, largest) for step in range(17))
        return tuple(sorted({*grid, self.eps}))
