"""Which network: settings only, free of torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.spec.settings import Settings


class DistanceMLPSettings(Settings):
    """A fully connected l_inf-distance network: 1-Lipschitz, so its margin is its certificate."""

    kind: Literal["distance_mlp"]

    width: int = Field(ge=1, le=16384)
    """Outputs of each hidden layer. Wider certifies more; time grows with its square."""

    depth: int = Field(ge=1, le=64)
    """Number of distance layers; the last one gives the logits."""


class HybridSettings(Settings):
    """Distance layers as features, then Linear - tanh - Linear (arXiv:2102.05363, net + MLP).

    More accurate on hard data; its certificate needs bounds through the two linear layers.
    """

    kind: Literal["hybrid"]

    width: int = Field(ge=1, le=16384)
    """Outputs of each distance layer, the features included."""

    depth: int = Field(ge=1, le=64)
    """Number of distance layers before the head."""

    hidden: int = Field(ge=1, le=16384)
    """Units between the two linear layers of the head."""


class SparseMLPSettings(Settings):
    """A distance_mlp of which the prune stage kept some edges; it is never trained from scratch."""

    kind: Literal["sparse_mlp"]

    widths: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = Field(min_length=1)
    """Outputs of each distance layer; the last one gives the logits."""

    num_edges: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Edges kept in each layer."""

    @model_validator(mode="after")
    def _one_a_layer(self) -> Self:
        if len(self.widths) != len(self.num_edges):
            raise ValueError("widths and num_edges must have one entry a layer")
        return self


NetworkSettings = Annotated[DistanceMLPSettings | HybridSettings, Field(discriminator="kind")]
"""What can be trained."""

AnyNetworkSettings = Annotated[
    DistanceMLPSettings | HybridSettings | SparseMLPSettings, Field(discriminator="kind")
]
"""What a network file can hold."""
