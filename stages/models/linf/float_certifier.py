"""Proofs for each kind of network: what is computed at p = infinity, and what follows from it.

B batch, C channels, H x W pixels, K classes. Validation and certification both decide here, so
there is one meaning of "certified". Every proof holds for the network in real arithmetic and for
`Prover.logits` as computed here, at every point of the ball or box.
"""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.float_error import (
    feature_error,
    float_slack,
    margin,
    margin_radius,
    predicted_classes,
)
from stages.models.linf.head_bounds import FEW, HeadBounds
from stages.models.linf.head_prover import HeadProver
from stages.models.linf.network import DistanceMLP, DistanceNetwork, Hybrid

RADIUS_STEPS = 20
"""Bisection steps for a hybrid's radius in [0, 1]: it is found to 2^-20 pixel."""


class MarginProof(NamedTuple):
    """What the unchanged images say, and what follows for their balls."""

    predicted: Tensor
    """int64 (B,): class of the largest logit; a tie goes against the label."""
    margin: Tensor
    """float64 (B,): logit of the label minus the largest other, as computed."""
    radius: Tensor
    """float64 (B,) in pixels: proved at every eps < radius, strictly; 0 proves nothing."""


class Prover(ABC):
    """What can be proved about one network in evaluation mode, always at p = infinity."""

    @abstractmethod
    def logits(self, inputs: Tensor) -> Tensor:
        """The logits that predictions, attacks and proofs are about.

        Args:
            inputs: normalised, float32 (B, C, H, W).

        Returns:
            float64 (B, K).
        """

    @abstractmethod
    def by_margin(self, inputs: Tensor, labels: Tensor) -> MarginProof:
        """Predict, and prove what follows from the layers being 1-Lipschitz.

        For a distance network that is the margin; for a hybrid the features stay within eps_input
        and the head is bounded over that cube, the radius found by bisection.

        Args:
            inputs: normalised images, float32 (B, C, H, W).
            labels: int64 (B,).
        """

    @abstractmethod
    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        """Whether the label is proved for every input in a box.

        Args:
            box: normalised corners, float32 (B, C, H, W), lower <= upper.
            labels: int64 (B,).

        Returns:
            bool (B,).

        Raises:
            ValueError: a lower end exceeds its upper end.
        """


def prover_for(network: DistanceNetwork, normalisation: Normalisation) -> Prover:
    """The prover of a network.

    Args:
        network: in evaluation mode; its weights must not change while the prover is in use.
        normalisation: what the network expects of its images.

    Raises:
        UserError: training mode, weights that are not finite float32, or a network of a kind for
            which nothing is proved here.
    """
    _refuse_unfit(network)
    with torch.no_grad():
        if isinstance(network, DistanceMLP):
            return DistanceProver(network, normalisation)
        if isinstance(network, Hybrid):
            return HybridProver(network, normalisation)
    raise UserError(f"no certificate is known for a network of kind {type(network).__name__}")


class DistanceProver(Prover):
    """A network of distance layers only: 1-Lipschitz from pixels to logits."""

    def __init__(self, network: DistanceMLP, normalisation: Normalisation) -> None:
        self._network = network
        self._std = normalisation.std
        self._slack = float_slack(network, normalisation)

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """See `Prover`."""
        logits: Tensor = self._network(inputs, math.inf)
        return logits.double()

    def by_margin(self, inputs: Tensor, labels: Tensor) -> MarginProof:
        """See `Prover`."""
        logits = self.logits(inputs)
        margins = margin(logits, labels)
        radius = margin_radius(margins, self._slack, self._std)
        return MarginProof(predicted_classes(logits, labels), margins, radius)

    @torch.no_grad()
    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        """See `Prover`."""
        _refuse_empty(box)
        lower, upper = self._network.bounds(*box)
        # The label at its worst against all others at their best.
        ends = upper.scatter(1, labels[:, None], lower.gather(1, labels[:, None]))
        lead = margin(ends, labels)
        return (lead > self._slack) & lead.isfinite()


class HybridProver(Prover):
    """Distance layers in float32, whose error is bounded, then the head in float64."""

    def __init__(self, network: Hybrid, normalisation: Normalisation) -> None:
        self._network = network
        self._std = normalisation.std
        head = HeadBounds(network.first, network.second)
        self._head = HeadProver(head, *feature_error(network, normalisation))

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """See `Prover`."""
        return self._head.logits(self._network.features(inputs, math.inf).double())

    @torch.no_grad()
    def by_margin(self, inputs: Tensor, labels: Tensor) -> MarginProof:
        """See `Prover`."""
        features = self._network.features(inputs, math.inf).double()
        logits = self._head.logits(features)
        proves = self._head.prover_around(features, labels)
        proved = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
        step = 0.5
        for _ in range(RADIUS_STEPS):
            radius = proved + step
            is_proved = proves(radius / self._std * (1 + FEW))
            proved = torch.where(is_proved, radius, proved)
            step /= 2
        return MarginProof(predicted_classes(logits, labels), margin(logits, labels), proved)

    @torch.no_grad()
    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        """See `Prover`."""
        _refuse_empty(box)
        lower, upper = (end.flatten(1) for end in box)
        for layer in self._network.hidden:
            lower, upper = layer.bounds(lower, upper)
        return self._head.proves_box(Box(lower.double(), upper.double()), labels)


def _refuse_empty(box: Box) -> None:
    if not (box.lower <= box.upper).all():
        raise ValueError("a box has a lower end above its upper end, or one that is no number")


def _refuse_unfit(network: DistanceNetwork) -> None:
    if network.training:
        raise UserError(
            "the network is in training mode, where an image's logits depend on its batch; "
            "call network.eval() first"
        )
    for name, tensor in network.state_dict().items():
        if name.endswith((".columns", ".starts")):  # which edges there are: whole numbers
            continue
        if tensor.dtype != torch.float32:
            raise UserError(f"{name} is {tensor.dtype}; the proofs allow for float32 rounding only")
        if not tensor.isfinite().all():
            num_bad = int((~tensor.isfinite()).sum())
            raise UserError(
                f"{name} holds {num_bad} numbers that are NaN or infinite: nothing can be proved; "
                "train the network again"
            )
