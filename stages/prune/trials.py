"""Pruned networks, made from one full network and judged on the validation split."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from torch import Tensor

from stages.models.family import Family
from stages.models.images import Normalisation
from stages.models.pruning import PrunedNetwork, Pruner
from stages.models.validation import BatchSource, Counts, evaluate, finalise


@dataclass(frozen=True)
class Trial:
    """A pruned network and how good it is."""

    pruned: PrunedNetwork
    sparsity: float
    """Share of the edges that are gone, those included that were folded or led nowhere."""
    counts: Counts
    """On the validation split."""


@dataclass(frozen=True)
class Trials:
    """What pruned networks are made of and judged by, the same on every rank."""

    family: Family
    pruner: Pruner
    image_shape: tuple[int, int, int]
    normalisation: Normalisation
    training: BatchSource
    """This rank's share of all training images: for running means."""
    validation: BatchSource
    """This rank's share of the validation images."""
    eps: Fraction
    """Radius of the certified counts, in pixels."""

    def attempt(self, keep: Sequence[Tensor]) -> Trial:
        """Prune to the edges of `keep`, bool (O, I) for each layer, and judge."""
        return self.judge(self.pruner.prune(self.image_shape, keep))

    def judge(self, pruned: PrunedNetwork) -> Trial:
        """Estimate running means from all training images, then count validation images."""
        finalise(self.family, pruned.network, self.normalisation, self.training)
        num_edges = sum(size.num_edges for size in self.pruner.sizes)
        return Trial(pruned, 1 - pruned.num_edges / num_edges, self._count(pruned.network))

    def judge_full(self) -> Counts:
        """Count validation images with the full network, as it was handed on."""
        return self._count(self.pruner.network)

    def _count(self, network: Any) -> Counts:
        return evaluate(self.family, network, self.normalisation, self.validation, self.eps)
