"""Distance networks: a stack of distance layers with a distance or an MLP head.

B batch, C channels, H x W pixels, F features (width), K classes, y true class. `p` is an argument
of forward: math.inf is the network that gets certified, a finite p its surrogate in training.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from kernels.layers import Centering, DistanceLinear, SparseDistance
from stages.models.config import AnyNetworkSettings, HybridSettings, SparseMLPSettings


class WorstCase(NamedTuple):
    """Logits, and how far each class may overtake the true one in the l_inf ball."""

    logits: Tensor
    """(B, K) at the centre of the ball."""
    worst: Tensor
    """(B, K): bound on max (z_j - z_y) over the ball for j != y; 0 for y.

    All of them below 0 proves the prediction, up to float32 rounding, at p = math.inf only.
    """


class CentredDistance(nn.Module):
    """A hidden layer: distances, then `Centering`. 1-Lipschitz for l_inf at p = inf."""

    def __init__(self, distance: DistanceLinear | SparseDistance) -> None:
        super().__init__()
        self.distance = distance
        self.centering = Centering(distance.num_outputs)

    def forward(self, x: Tensor, p: float) -> Tensor:
        """(B, I) -> (B, O)."""
        centred: Tensor = self.centering(self.distance(x, p))
        return centred

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Box of the outputs over the box [lower, upper] at p = inf; evaluation mode only."""
        lower, upper = self.distance.bounds(lower, upper)
        return self.centering.bounds(lower, upper)


class DistanceNetwork(nn.Module, ABC):
    """Base of all networks: hidden distance layers give features, a head turns them into logits.

    Args:
        image_shape: (H, W, C), as a manifest states it; images themselves are (B, C, H, W).
        num_classes: K.
        distances: of the hidden layers, first to last.
    """

    hidden: Sequence[CentredDistance]
    """The hidden layers, first to last."""

    def __init__(
        self,
        image_shape: Sequence[int],
        num_classes: int,
        distances: Sequence[DistanceLinear | SparseDistance],
    ) -> None:
        super().__init__()
        self.num_inputs = math.prod(image_shape)
        self.num_features = distances[-1].num_outputs if distances else self.num_inputs
        self.num_classes = num_classes
        layers = nn.ModuleList(CentredDistance(distance) for distance in distances)
        self.hidden = cast("Sequence[CentredDistance]", layers)

    def features(self, images: Tensor, p: float) -> Tensor:
        """Normalised images (B, C, H, W) -> (B, F)."""
        x = images.flatten(1)
        for layer in self.hidden:
            x = layer(x, p)
        return x

    def forward(self, images: Tensor, p: float) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        return self._head(self.features(images, p), p)

    def worst_case(self, images: Tensor, labels: Tensor, p: float, eps_input: float) -> WorstCase:
        """Logits and worst-case differences from one pass.

        At a finite p the differences are a training surrogate and prove nothing.

        Args:
            images: normalised, (B, C, H, W).
            labels: int64 (B,).
            p: norm of the distance layers.
            eps_input: radius of the ball in input units.
        """
        features = self.features(images, p)
        return self._head_worst_case(features, labels, p, eps_input)

    def bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Box of the logits over a box of inputs, at p = inf.

        Args:
            lower: normalised corner, (B, C, H, W).
            upper: the opposite corner, nowhere below `lower`.

        Returns:
            lower and upper logits, (B, K), up to float32 rounding.

        Raises:
            RuntimeError: the network is in training mode, where outputs depend on the batch.
        """
        return self._head_bounds(*self._feature_bounds(lower, upper))

    def worst_case_in_box(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
        """Bound on z_j - z_y over a box of inputs, at p = inf; at least as tight as `bounds`.

        Args:
            lower: normalised corner, (B, C, H, W).
            upper: the opposite corner, nowhere below `lower`.
            labels: int64 (B,).

        Returns:
            (B, K), 0 for y, up to float32 rounding.

        Raises:
            RuntimeError: the network is in training mode.
        """
        return self._head_worst_in_box(*self._feature_bounds(lower, upper), labels)

    def _feature_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            raise RuntimeError(
                "bounds hold for a network in evaluation mode only: call network.eval() first"
            )
        lower, upper = lower.flatten(1), upper.flatten(1)
        for layer in self.hidden:
            lower, upper = layer.bounds(lower, upper)
        return lower, upper

    @abstractmethod
    def _head(self, features: Tensor, p: float) -> Tensor: ...

    @abstractmethod
    def _head_worst_case(
        self, features: Tensor, labels: Tensor, p: float, eps_input: float
    ) -> WorstCase: ...

    @abstractmethod
    def _head_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _head_worst_in_box(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor: ...


class DistanceMLP(DistanceNetwork):
    """Distance layers only: logits are the negative of a last distance layer plus bias.

    Every logit is 1-Lipschitz for l_inf at p = inf, so a margin above 2 eps_input is a certificate.

    Args:
        image_shape: (H, W, C).
        num_classes: K.
        width: outputs of each hidden layer.
        depth: number of distance layers, the last one included.
    """

    last: DistanceLinear | SparseDistance
    """Its distances plus `bias` are the negative logits."""

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, width: int, depth: int
    ) -> None:
        super().__init__(image_shape, num_classes, _full_layers(image_shape, width, depth - 1))
        self.last = DistanceLinear(self.num_features, num_classes)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    @property
    def distances(self) -> list[DistanceLinear | SparseDistance]:
        """All distance layers, first to last."""
        return [*(layer.distance for layer in self.hidden), self.last]

    def _head(self, features: Tensor, p: float) -> Tensor:
        distances: Tensor = self.last(features, p)
        return -(distances + self.bias)

    def _head_worst_case(
        self, features: Tensor, labels: Tensor, p: float, eps_input: float
    ) -> WorstCase:
        logits = self._head(features, p)
        differences = logits - logits.gather(1, labels[:, None])
        return WorstCase(logits, _zero_at(differences + 2 * eps_input, labels))

    def _head_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        lower, upper = self.last.bounds(lower, upper)
        return -(upper + self.bias), -(lower + self.bias)

    def _head_worst_in_box(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
        lower, upper = self._head_bounds(lower, upper)
        return _zero_at(upper - lower.gather(1, labels[:, None]), labels)


class SparseMLP(DistanceMLP):
    """A `DistanceMLP` of which few edges are kept; what is proved of one holds of the other.

    Args:
        image_shape: (H, W, C).
        widths: outputs of each layer, those of the last one K.
        num_edges: edges of each layer.
    """

    def __init__(
        self, image_shape: Sequence[int], widths: Sequence[int], num_edges: Sequence[int]
    ) -> None:
        fan_ins = (math.prod(image_shape), *widths)
        *hidden, last = map(SparseDistance, fan_ins, widths, num_edges)
        # Not DistanceMLP's own layers, which are full.
        DistanceNetwork.__init__(self, image_shape, widths[-1], hidden)
        self.last = last
        self.bias = nn.Parameter(torch.zeros(widths[-1]))


class Hybrid(DistanceNetwork):
    """Distance layers as features, then Linear - tanh - Linear (arXiv:2102.05363, net + MLP).

    The features are 1-Lipschitz for l_inf at p = inf: in the ball they stay within eps_input. The
    head carries that box by centre and half-width.

    Args:
        image_shape: (H, W, C).
        num_classes: K.
        width: F, outputs of each distance layer.
        depth: number of distance layers.
        hidden: units between the two linear layers.
    """

    def __init__(
        self, image_shape: Sequence[int], num_classes: int, width: int, depth: int, hidden: int
    ) -> None:
        super().__init__(image_shape, num_classes, _full_layers(image_shape, width, depth))
        self.first = nn.Linear(width, hidden)
        self.second = nn.Linear(hidden, num_classes)

    def _head(self, features: Tensor, p: float) -> Tensor:
        logits: Tensor = self.second(self.first(features).tanh())
        return logits

    def _head_worst_case(
        self, features: Tensor, labels: Tensor, p: float, eps_input: float
    ) -> WorstCase:
        worst = self._worst(features, torch.full_like(features, eps_input), labels)
        return WorstCase(self._head(features, p), worst)

    def _head_bounds(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        centre, half = self._hidden_box(*_centre_and_half(lower, upper))
        centre, half = self.second(centre), half @ self.second.weight.abs().T
        return centre - half, centre + half

    def _head_worst_in_box(self, lower: Tensor, upper: Tensor, labels: Tensor) -> Tensor:
        return self._worst(*_centre_and_half(lower, upper), labels)

    def _worst(self, centre: Tensor, half: Tensor, labels: Tensor) -> Tensor:
        """Difference rows W_j - W_y are merged before bounding; memory B * K * hidden."""
        centre, half = self._hidden_box(centre, half)
        logits: Tensor = self.second(centre)
        weight = self.second.weight
        spread = (weight - weight[labels][:, None]).abs() @ half[:, :, None]
        return logits - logits.gather(1, labels[:, None]) + spread[:, :, 0]

    def _hidden_box(self, centre: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
        """Box of the features -> box after tanh, both as centre and half-width."""
        centre, half = self.first(centre), half @ self.first.weight.abs().T
        return _centre_and_half((centre - half).tanh(), (centre + half).tanh())


def build_network(
    settings: AnyNetworkSettings, image_shape: Sequence[int], num_classes: int
) -> DistanceNetwork:
    """The network that the settings describe, freshly initialised from torch's generator.

    Args:
        settings: which architecture.
        image_shape: (H, W, C).
        num_classes: K.
    """
    if isinstance(settings, SparseMLPSettings):
        return SparseMLP(image_shape, settings.widths, settings.num_edges)
    width, depth = settings.width, settings.depth
    if isinstance(settings, HybridSettings):
        return Hybrid(image_shape, num_classes, width, depth, settings.hidden)
    return DistanceMLP(image_shape, num_classes, width, depth)


def _full_layers(
    image_shape: Sequence[int], width: int, num_layers: int
) -> list[DistanceLinear | SparseDistance]:
    fan_ins = [math.prod(image_shape), *[width] * num_layers][:num_layers]
    return [DistanceLinear(fan_in, width) for fan_in in fan_ins]


def _centre_and_half(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    return (lower + upper) / 2, (upper - lower) / 2


def _zero_at(differences: Tensor, labels: Tensor) -> Tensor:
    return differences.scatter(1, labels[:, None], 0.0)
