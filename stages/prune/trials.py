"""Pruned networks, made from one full network and judged on the validation split."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor

from stages.models.images import Normalisation
from stages.models.linf.network import DistanceMLP
from stages.models.validation import BatchSource, Counts, evaluate, make_ready_for_infinity
from stages.prune.prune_edges import PrunedNetwork, prune


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

    full: DistanceMLP
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
        return self.judge(prune(self.full, self.image_shape, keep))

    def judge(self, pruned: PrunedNetwork) -> Trial:
        """Estimate running means from all training images, then count validation images."""
        make_ready_for_infinity(pruned.network, self.normalisation, self.training)
        counts = evaluate(pruned.network, self.normalisation, self.validation, self.eps)
        num_edges = sum(part.weight.numel() for part in self.full.distances)
        return Trial(pruned, 1 - sum(pruned.settings.num_edges) / num_edges, counts)

    def judge_full(self) -> Counts:
        """Count validation images with the full network, as it was handed on."""
        return evaluate(self.full, self.normalisation, self.validation, self.eps)
