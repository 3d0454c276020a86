"""Settings of l_inf-distance networks, of their layers and certificates; free of torch."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.spec.settings import Settings
from stages.data.radius import Norm
from stages.models.kinds import CertifierKind, NetworkKind, TrainingRuleKind

Width = Annotated[int, Field(ge=1, le=16384)]


class DenseSettings(Settings):
    """A distance layer in which every output has an edge from every input."""

    kind: Literal["dense"] = "dense"

    num_outputs: Width
    """Outputs. Wider certifies more; time grows with the product of inputs and outputs."""


class SparseSettings(Settings):
    """A distance layer of which some edges are kept, as the prune stage leaves it."""

    kind: Literal["sparse"] = "sparse"

    num_outputs: Width

    num_edges: int = Field(ge=1)
    """Edges kept, over all outputs."""


LayerSettings = Annotated[DenseSettings | SparseSettings, Field(discriminator="kind")]
"""A distance layer: `layers/<kind>.py`."""


class DistanceHeadSettings(Settings):
    """Logits are minus the distances of a last distance layer, plus a bias: each is 1-Lipschitz."""

    kind: Literal["distance"] = "distance"

    is_lipschitz: ClassVar[bool] = True

    layer: LayerSettings
    """Its outputs are the classes."""


class MLPHeadSettings(Settings):
    """Linear - tanh - Linear on the last distance layer's outputs (arXiv:2102.05363)."""

    kind: Literal["mlp"] = "mlp"

    is_lipschitz: ClassVar[bool] = False

    num_hidden: Width
    """Units between the two linear layers."""


HeadSettings = Annotated[DistanceHeadSettings | MLPHeadSettings, Field(discriminator="kind")]
"""What turns features into logits: `heads/<kind>.py`."""


class LinfSettings(NetworkKind):
    """What all l_inf-distance networks have in common."""

    family: ClassVar[str] = "linf"
    norm: ClassVar[Norm] = "linf"

    words: ClassVar[Mapping[str, str]] = {
        "p": "The norm inside the distance layers. Training starts at a small p and ends at ∞, "
        "the network that is certified."
    }
    untrained: ClassVar[tuple[str, ...]] = ("running_mean", "columns", "starts", "floor")

    def hidden_layers(self) -> tuple[LayerSettings, ...]:
        """The hidden layers, first to last; each is followed by a subtraction of its mean."""
        raise NotImplementedError

    def head_layer(self, num_classes: int) -> HeadSettings:
        """What turns the last hidden layer's outputs into logits."""
        raise NotImplementedError

    @property
    def is_lipschitz(self) -> bool:
        """See `NetworkKind`."""
        return self.head_layer(2).is_lipschitz


class DistanceMLPSettings(LinfSettings):
    """A fully connected l_inf-distance network: 1-Lipschitz, so its margin is its certificate."""

    kind: Literal["distance_mlp"]

    width: Width
    """Outputs of each hidden layer. Wider certifies more; time grows with its square."""

    depth: int = Field(ge=1, le=64)
    """Number of distance layers; the last one gives the logits."""

    def hidden_layers(self) -> tuple[LayerSettings, ...]:
        """`depth - 1` dense layers."""
        return (DenseSettings(num_outputs=self.width),) * (self.depth - 1)

    def head_layer(self, num_classes: int) -> HeadSettings:
        """A dense layer."""
        return DistanceHeadSettings(layer=DenseSettings(num_outputs=num_classes))


class HybridSettings(LinfSettings):
    """Distance layers as features, then Linear - tanh - Linear (arXiv:2102.05363, net + MLP).

    More accurate on hard data; its certificate needs bounds through the two linear layers.
    """

    kind: Literal["hybrid"]

    width: Width
    """Outputs of each distance layer, the features included."""

    depth: int = Field(ge=1, le=64)
    """Number of distance layers before the head."""

    hidden: Width
    """Units between the two linear layers of the head."""

    def hidden_layers(self) -> tuple[LayerSettings, ...]:
        """`depth` dense layers."""
        return (DenseSettings(num_outputs=self.width),) * self.depth

    def head_layer(self, num_classes: int) -> HeadSettings:
        """An MLP."""
        return MLPHeadSettings(num_hidden=self.hidden)


class LayersSettings(LinfSettings):
    """A network given layer by layer."""

    kind: Literal["layers"]

    hidden: tuple[LayerSettings, ...] = Field(min_length=1, max_length=64)
    """The hidden layers, first to last."""

    head: HeadSettings
    """What turns the last hidden layer's outputs into logits."""

    def hidden_layers(self) -> tuple[LayerSettings, ...]:
        """As given."""
        return self.hidden

    def head_layer(self, num_classes: int) -> HeadSettings:
        """As given."""
        return self.head


class SparseMLPSettings(LinfSettings):
    """A distance_mlp of which the prune stage kept some edges; it is never trained from scratch."""

    kind: Literal["sparse_mlp"]

    widths: tuple[Width, ...] = Field(min_length=1)
    """Outputs of each distance layer; the last one gives the logits."""

    num_edges: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Edges kept in each layer."""

    @model_validator(mode="after")
    def _one_a_layer(self) -> Self:
        if len(self.widths) != len(self.num_edges):
            raise ValueError("widths and num_edges must have one entry a layer")
        return self

    def hidden_layers(self) -> tuple[LayerSettings, ...]:
        """All but the last."""
        return self._layers()[:-1]

    def head_layer(self, num_classes: int) -> HeadSettings:
        """The last layer."""
        return DistanceHeadSettings(layer=self._layers()[-1])

    def _layers(self) -> tuple[SparseSettings, ...]:
        return tuple(
            SparseSettings(num_outputs=width, num_edges=edges)
            for width, edges in zip(self.widths, self.num_edges, strict=True)
        )


class RisingPSettings(TrainingRuleKind):
    """How p, the norm of the distance layers, rises in training: constant, exponential, infinite.

    Epochs may be fractions; p changes with every step.
    """

    kind: Literal["rising_p"]

    family: ClassVar[str] = "linf"

    start: float = Field(8.0, ge=2, le=1000)
    """Norm until `rise_epoch`: small enough that every weight gets a gradient."""

    end: float = Field(1000.0, ge=2, le=1000)
    """Norm that the exponential rise reaches at `infinite_epoch`."""

    rise_epoch: float = Field(ge=0)
    """When p leaves `start`."""

    infinite_epoch: float = Field(ge=0)
    """When p becomes infinite: the network that gets certified is trained from here on."""

    @model_validator(mode="after")
    def _never_falls(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"p never falls: end {self.end} is below start {self.start}")
        return self

    def check_length(self, epochs: int) -> None:
        """Refuse a training that ends before p is infinite.

        Raises:
            ValueError: names the epochs that are out of order.
        """
        if not self.rise_epoch <= self.infinite_epoch <= epochs:
            raise ValueError(
                f"needs rise_epoch <= infinite_epoch <= epochs, got {self.rise_epoch}, "
                f"{self.infinite_epoch}, {epochs}"
            )


class _Certificates(CertifierKind):
    family: ClassVar[str] = "linf"

    certificates: tuple[Literal["margin", "interval"], ...] = Field(
        ("margin", "interval"), min_length=1
    )
    """What is tried to prove an image; one of them has to. `margin` costs one forward pass.
    `interval` never proves less: it leaves out the part of the ball that is no valid image. It
    costs about 2 + `radius_steps` passes with bounds, spent where the margin has not decided."""

    radius_steps: int = Field(3, ge=0, le=40)
    """Bisections of the interval certificate's radius between two radii of the grid. 0 leaves the
    largest radius of the grid that is proved, or the margin's; accuracies do not depend on it."""

    @field_validator("certificates")
    @classmethod
    def _each_once(cls, certificates: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(certificates)) < len(certificates):
            raise ValueError("a certificate is given twice")
        return certificates

    @property
    def description(self) -> str:
        """The method and its certificates in few words, e.g. `exact margin+interval`."""
        return f"{self.kind} {'+'.join(self.certificates)}"


class ExactSettings(_Certificates):
    """The network is rounded to whole numbers once, and that network is certified and shipped.

    Nothing rounds from there on, so the result is the same on every machine.
    """

    kind: Literal["exact"] = "exact"

    fraction_bits: int | None = Field(None, ge=0, le=16)
    """How fine the whole numbers are, 1 / (255 * 2^bits) of a pixel. Default: as fine as 16-bit
    numbers allow if no accuracy of the validation images moves by more than 0.05 points, else as
    coarse as 32-bit numbers need for that. Without validation images it is 12."""


class FloatSettings(_Certificates):
    """The float32 network is certified as it runs here, less all that rounding could do."""

    kind: Literal["float"] = "float"


NETWORKS = (DistanceMLPSettings, HybridSettings, LayersSettings)
DERIVED_NETWORKS = (SparseMLPSettings,)
TRAINING_RULES = (RisingPSettings,)
CERTIFIERS = (ExactSettings, FloatSettings)
