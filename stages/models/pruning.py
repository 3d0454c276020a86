"""What a family that can be pruned offers: uses of edges counted, and networks of fewer edges.

O outputs and I inputs of a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from pipeline.errors import UserError
from stages.models.family import WorstCase
from stages.models.images import Normalisation
from stages.models.validation import BatchSource


class EmptyLayer(UserError):
    """A layer would be left without edges."""


@dataclass(frozen=True)
class LayerSize:
    """Edges and outputs of one layer."""

    num_edges: int
    num_outputs: int


@dataclass(frozen=True)
class LayerCut:
    """What pruning did to one layer."""

    size: LayerSize
    """Afterwards."""
    num_constant: int
    """Neurons whose output became a constant."""
    num_unused: int
    """Neurons that were removed because no edge starts from them."""


@dataclass(frozen=True)
class PrunedNetwork:
    """A network of few edges and how it came about."""

    network: nn.Module
    """In evaluation mode; it has to be finished as for certification."""
    settings: Any
    """What it is built from."""
    cuts: tuple[LayerCut, ...]
    """One a layer."""

    @property
    def num_edges(self) -> int:
        """Over all layers."""
        return sum(cut.size.num_edges for cut in self.cuts)


class Pruner(Protocol):
    """Prunes one full network, which stays as it is."""

    @property
    def network(self) -> Any:
        """The full network."""

    @property
    def sizes(self) -> Sequence[LayerSize]:
        """Of its layers, first to last."""

    def count_uses(self, normalisation: Normalisation, images: BatchSource) -> list[Tensor]:
        """For every edge the number of images at which it decides its output.

        Args:
            normalisation: what the network expects.
            images: this rank's share of the training images; the counts are over all ranks.

        Returns:
            int64 (O, I) for each layer, first to last.
        """

    def prune(self, image_shape: Sequence[int], keep: Sequence[Tensor]) -> PrunedNetwork:
        """Keep some edges.

        Args:
            image_shape: (H, W, C).
            keep: bool (O, I) for each layer.

        Raises:
            EmptyLayer: a layer has no edge that is worth anything.
        """

    def worst_case(
        self, network: nn.Module, images: Tensor, labels: Tensor, eps_input: float
    ) -> WorstCase:
        """What a pruned network is trained by: normalised images (B, C, H, W), labels (B,)."""
