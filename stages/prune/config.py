"""Settings of the prune stage, free of torch."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings
from pipeline.spec.settings import Settings as FrozenSettings
from stages.data.config import AugmentSettings
from stages.data.radius import ExactFraction, Norm


class Inputs(StageInputs):
    """What pruning reads."""

    data: Annotated[str, Kinds("shard")]
    """The shard stage that the network was trained on: uses are counted on its training images,
    the sparsity is judged on its validation images; its test images are never looked at."""

    network: Annotated[str, Kinds("train")]
    """The stage that trained the network."""


class FineTuneSettings(FrozenSettings):
    """Training of the edges kept, as they are certified, by the hinge loss of worst cases."""

    epochs: int = Field(2, ge=1)
    """Passes over the training images."""

    learning_rate: float = Field(0.0003, gt=0)
    """Adam's, falling to 0 by a cosine. Few edges get a gradient, so large steps do harm."""

    eps_train: ExactFraction
    """Radius in the loss, in pixels; that of the training is a good start."""

    batch_size: int = Field(512, ge=1)
    """Images a step over all ranks together."""

    augment: AugmentSettings = AugmentSettings()

    seed: int = Field(0, ge=0)
    """Decides the order of the images."""

    @field_validator("eps_train")
    @classmethod
    def _is_a_ball(cls, eps_train: Fraction) -> Fraction:
        if eps_train == 0:
            raise ValueError(
                "eps_train is 0, but the loss divides by it; write a fraction like 1/10"
            )
        return eps_train


class Settings(StageSettings):
    """Keep the edges that decide most often; what is left is a network of its own."""

    code_packages: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")

    inputs: Inputs

    norm: Norm = "linf"
    """Of the balls in which certified accuracy is guarded."""

    eps: ExactFraction
    """Radius in pixels that the network is meant for: `auto` guards certified accuracy there."""

    sparsity: Literal["auto"] | Annotated[float, Field(ge=0, lt=1)] = "auto"
    """Share of the edges to drop, those that decide least. `auto` finds the largest whose clean and
    certified validation accuracy fall by at most `tolerance`."""

    min_count: int | None = Field(None, ge=1)
    """Instead of a sparsity: keep the edges that decide for at least so many training images."""

    scope: Literal["network", "layer"] = "network"
    """What a sparsity is a share of. `network` drops the least used edges wherever they are;
    `layer` drops the same share of each layer, so that none is thinned out much."""

    tolerance: float = Field(0.001, ge=0, le=1)
    """For `auto`: how far either validation accuracy may fall. 0.001 is a tenth of a point; the
    share of test images that flip may be somewhat larger or smaller."""

    curve_points: int = Field(12, ge=2, le=100)
    """Sparsities tried for the accuracy-sparsity curve, which `auto` starts from."""

    refinements: int = Field(4, ge=0, le=20)
    """For `auto`: halvings of the gap between the best point of the curve and the one after it."""

    fine_tune: FineTuneSettings | None = None
    """Training after the edges are chosen; left out, the weights stay as they were trained. What it
    gives is kept only if neither validation accuracy is the worse for it."""

    batch_size: int = Field(2000, ge=1)
    """Images at a time on a rank; changes memory and time, not results."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if self.min_count is not None and self.sparsity != "auto":
            raise ValueError("sparsity and min_count both choose the edges: give one of them")
        return self
