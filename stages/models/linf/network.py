"""Distance networks: hidden distance layers give features, a head turns them into logits.

B batch, C channels, H x W pixels, F features, K classes, y true class. `p` is an argument of
forward: math.inf is the network that gets certified, a finite p its surrogate in training.
"""

import math
from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from kernels.layers import Box, Centering
from pipeline.errors import UserError
from stages.models.family import WorstCase
from stages.models.linf.config import LinfSettings
from stages.models.linf.heads.head import Head, head_of
from stages.models.linf.layers.layer import DistanceLayer, layer_of


class HiddenLayer(nn.Module):
    """Distances, then `Centering`; 1-Lipschitz for l_inf at p = infinity."""

    def __init__(self, distance: DistanceLayer) -> None:
        super().__init__()
        self.distance = distance
        self.centering = Centering(distance.num_outputs)

    def forward(self, x: Tensor, p: float) -> Tensor:
        """(B, I) -> (B, O)."""
        centred: Tensor = self.centering(self.distance(x, p))
        return centred

    def bounds(self, box: Box) -> Box:
        """Box of the outputs over a box of inputs at p = infinity; evaluation mode only."""
        return self.centering.bounds(*self.distance.bounds(*box))


class LinfNetwork(nn.Module):
    """A list of hidden layers and a head.

    Args:
        image_shape: (H, W, C), as a manifest states it; images themselves are (B, C, H, W).
        hidden: first to last.
        head: on the last one's outputs.
    """

    hidden: Sequence[HiddenLayer]

    def __init__(
        self, image_shape: Sequence[int], hidden: Sequence[DistanceLayer], head: Head
    ) -> None:
        super().__init__()
        self.num_inputs = math.prod(image_shape)
        layers = nn.ModuleList(HiddenLayer(distance) for distance in hidden)
        self.hidden = cast("Sequence[HiddenLayer]", layers)
        self.head = head
        self.num_classes = head.num_classes

    @property
    def distances(self) -> list[DistanceLayer]:
        """All distance layers, first to last."""
        return [*(layer.distance for layer in self.hidden), *self.head.distances]

    def features(self, images: Tensor, p: float) -> Tensor:
        """Normalised images (B, C, H, W) -> (B, F)."""
        x = images.flatten(1)
        for layer in self.hidden:
            x = layer(x, p)
        return x

    def forward(self, images: Tensor, p: float) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        logits: Tensor = self.head(self.features(images, p), p)
        return logits

    def worst_case(self, images: Tensor, labels: Tensor, p: float, eps_input: float) -> WorstCase:
        """Logits and worst-case differences from one pass.

        At a finite p the differences are a training surrogate and prove nothing; at infinity all
        of them below 0 prove the prediction, up to float32 rounding.

        Args:
            images: normalised, (B, C, H, W).
            labels: int64 (B,).
            p: norm of the distance layers.
            eps_input: radius of the ball in input units.
        """
        return self.head.worst_case(self.features(images, p), labels, p, eps_input)

    def bounds(self, box: Box) -> Box:
        """Box of the logits over a box of inputs, at p = infinity.

        Args:
            box: normalised corners, (B, C, H, W), lower <= upper.

        Returns:
            (B, K), up to float32 rounding.

        Raises:
            RuntimeError: the network is in training mode, where outputs depend on the batch.
        """
        return self.head.bounds(self.feature_bounds(box))

    def worst_case_in_box(self, box: Box, labels: Tensor) -> Tensor:
        """Bound on z_j - z_y over a box of inputs, at p = infinity; as tight as `bounds` or more.

        Args:
            box: normalised corners, (B, C, H, W), lower <= upper.
            labels: int64 (B,).

        Returns:
            (B, K), 0 for y, up to float32 rounding.

        Raises:
            RuntimeError: the network is in training mode.
        """
        return self.head.worst_in_box(self.feature_bounds(box), labels)

    def feature_bounds(self, box: Box) -> Box:
        """Box of the features, (B, F), over a box of inputs (B, C, H, W), at p = infinity."""
        if self.training:
            raise RuntimeError(
                "bounds hold for a network in evaluation mode only: call network.eval() first"
            )
        box = Box(*(end.flatten(1) for end in box))
        for layer in self.hidden:
            box = layer.bounds(box)
        return box


def build_network(
    settings: LinfSettings, image_shape: Sequence[int], num_classes: int
) -> LinfNetwork:
    """The network that the settings describe, freshly initialised from torch's generator.

    Args:
        settings: which architecture.
        image_shape: (H, W, C).
        num_classes: K.

    Raises:
        UserError: its last layer has another number of outputs than there are classes.
    """
    num_features, hidden = math.prod(image_shape), []
    for layer in settings.hidden_layers():
        hidden.append(layer_of(layer.kind).build(layer, num_features))
        num_features = hidden[-1].num_outputs
    head_settings = settings.head_layer(num_classes)
    head = head_of(head_settings.kind).build(head_settings, num_features, num_classes)
    if head.num_classes != num_classes:
        raise UserError(
            f"the network's head has {head.num_classes} outputs, but there are {num_classes} "
            "classes: give it one output a class"
        )
    return LinfNetwork(image_shape, hidden, head)
