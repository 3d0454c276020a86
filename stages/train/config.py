"""Settings of the train stage, free of torch."""

from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings
from pipeline.spec.settings import Settings as FrozenSettings
from stages.data.config import AugmentSettings, RemoteShards
from stages.data.radius import ExactFraction, Norm
from stages.models.config import NetworkSettings, TrainingRuleSettings
from stages.train.losses.config import AnyLossSettings
from stages.train.radius_ramp import ConstantRadius, RadiusSettings


class Inputs(StageInputs):
    """What training reads."""

    data: Annotated[str, Kinds("shard")]
    """A shard stage with the splits `train` and `validation`."""


class OptimiserSettings(FrozenSettings):
    """Adam with decoupled l_p weight decay."""

    learning_rate: float = Field(0.02, gt=0)
    """At the start of the cosine."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.99,
    )
    """Adam's memory of the gradient and of its square."""

    adam_eps: float = Field(1e-10, gt=0)
    """Adam's divisor floor; late gradients are tiny, so it is far below the usual 1e-8."""

    decay: float = Field(0.0, ge=0)
    """lambda of the l_p weight decay; more regularises, 0 turns it off."""

    gradient_communication: Literal["float32", "bfloat16"] = "float32"
    """How gradients travel between ranks; bfloat16 halves the bytes, and rounds to 8 bits."""


class DistributedSettings(FrozenSettings):
    """How training is distributed over the ranks: memory and speed, not the network."""

    zero_stage: int = Field(0, ge=0, le=3)
    """What the ranks share out instead of each holding it: 1 Adam's moments, 2 gradients too, 3
    weights too. Each saves memory and costs time."""

    overlap: bool = False
    """Reduce gradients while the backward pass still runs (ZeRO 1 to 3, on GPUs)."""

    bucket_elements: int = Field(25_000_000, ge=1)
    """Numbers sent at a time; larger wastes less time on starts, and takes 4 bytes each."""

    timeout_s: float = Field(60.0, gt=0)
    """How long a rank may keep the others waiting before they take it for lost. Above the longest
    pause of a rank alone: writing a checkpoint."""


class ScheduleSettings(FrozenSettings):
    """How long training takes. Everything changes per step, not per epoch."""

    epochs: int = Field(ge=1)
    """Length of the training."""

    cosine_start_epoch: float = Field(0.0, ge=0)
    """Until here the learning rate is constant; from here a cosine takes it to 0."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.cosine_start_epoch >= self.epochs:
            raise ValueError(
                f"cosine_start_epoch {self.cosine_start_epoch} must be before epochs {self.epochs}"
            )
        return self


class ValidationSettings(FrozenSettings):
    """How often the validation split is looked at. Nothing but the history depends on it."""

    every_epochs: int = Field(1, ge=1)
    """Epochs between validations; the last epoch is always followed by one."""

    means_images: int = Field(10_000, ge=1)
    """Training images from which a validation estimates what no step trains, such as running means.

    The final network uses all of them.
    """

    batch_size: int = Field(1000, ge=1)
    """Images evaluated at a time on a rank; changes memory, not results."""


class CheckpointSettings(FrozenSettings):
    """What an interrupted run can go on from."""

    every_epochs: float = Field(1.0, gt=0)
    """Epochs between checkpoints, fractions allowed: at most this much work is ever redone."""

    keep: int = Field(2, ge=1)
    """Newest checkpoints kept; a damaged one is passed over for the one before."""


class Settings(StageSettings):
    """Train a network on the `train` split; the same seed and batch give the same network."""

    code_packages: ClassVar[tuple[str, ...]] = ("kernels", "stages.data", "stages.models")
    runtime_only: ClassVar[tuple[str, ...]] = (
        "distributed",
        "loader",
        "shards",
        "num_threads",
        "checkpoint",
    )

    inputs: Inputs

    network: NetworkSettings

    rule: TrainingRuleSettings
    """How the network's family trains it."""

    loss: AnyLossSettings

    norm: Norm = "linf"
    """Of the balls around images that the radii measure."""

    eps: ExactFraction
    """Radius in pixels that the network is meant for; validation certifies at it."""

    eps_train: ExactFraction
    """Radius in the loss; above `eps` it buys certified accuracy with clean accuracy."""

    radius: RadiusSettings = ConstantRadius(kind="constant")
    """How the radius in the loss grows to eps_train."""

    schedule: ScheduleSettings

    optimiser: OptimiserSettings = OptimiserSettings()

    distributed: DistributedSettings = DistributedSettings()

    augment: AugmentSettings = AugmentSettings()

    batch_size: int = Field(512, ge=1)
    """Most images a step over all ranks together; the network sees them as one batch. An epoch is
    cut into the fewest batches that hold no more, equal to one image, so that none is left out."""

    loader: Literal["resident", "streaming"] = "resident"
    """`resident` holds all images in memory; `streaming` is for data larger than that. The network
    is the same."""

    shards: RemoteShards | None = None
    """Where the shards lie, if not in the shard stage's artifact."""

    shuffle_window: int = Field(65_536, ge=1)
    """Images mixed at a time, over all ranks; a split that is no larger is permuted as a whole. The
    streaming loader holds two windows in memory, each rank its part of them."""

    num_threads: int = Field(2, ge=1)
    """Threads a rank that read shards for the streaming loader."""

    seed: int = Field(0, ge=0)
    """Decides initial weights, order of images and augmentation."""

    validation: ValidationSettings = ValidationSettings()

    checkpoint: CheckpointSettings = CheckpointSettings()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.eps_train == Fraction(0):
            raise ValueError("eps_train must be positive")
        self.network.check_norm(self.norm)
        if self.rule.family != self.network.family:
            raise ValueError(
                f"rule {self.rule.kind} trains networks of the family {self.rule.family}, "
                f"a {self.network.kind} is one of {self.network.family}"
            )
        self.rule.check_length(self.schedule.epochs)
        self.loss.check(self.network, self.radius)
        return self
