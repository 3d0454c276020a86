"""Proofs about a float32 network, from whose margins the largest possible rounding is taken off.

B batch, C channels, H x W pixels. Every proof holds for the network in real arithmetic and for its
logits as computed here, at every point of the ball or box.
"""

import math
from fractions import Fraction

import torch
from torch import Tensor

from kernels.layers import Box
from pipeline.errors import UserError
from stages.data.radius import largest_float_up_to
from stages.models.images import Normalisation
from stages.models.linf.ball import box_around
from stages.models.linf.float_error import features_reached
from stages.models.linf.network import LinfNetwork
from stages.models.linf.prover import MarginProof, Prover
from stages.models.margin import margin, predicted_classes


class FloatProver(Prover):
    """What can be proved about one network in evaluation mode, at p = infinity; radii in pixels.

    Args:
        network: its weights must not change while the prover is in use.
        normalisation: what the network expects of its images.

    Raises:
        UserError: training mode, or weights that are not finite float32.
    """

    ticks_per_pixel = 1

    def __init__(self, network: LinfNetwork, normalisation: Normalisation) -> None:
        _refuse_unfit(network)
        self._network, self._normalisation = network, normalisation
        reached = features_reached(network, normalisation)
        self._judge = network.head.float_judge(reached, normalisation)

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """The logits that predictions, attacks and proofs are about.

        Args:
            inputs: normalised, float32 (B, C, H, W).

        Returns:
            float64 (B, K).
        """
        return self._judge.logits(self._network.features(inputs, math.inf))

    @torch.no_grad()
    def by_margin(self, images: Tensor, labels: Tensor) -> MarginProof:
        """See `Prover`."""
        features = self._network.features(self._normalisation.apply(images), math.inf)
        logits = self._judge.logits(features)
        radius = self._judge.cube_radius(features, logits, labels)
        return MarginProof(predicted_classes(logits, labels), margin(logits, labels), radius)

    def by_box(self, images: Tensor, ticks: Tensor, labels: Tensor) -> Tensor:
        """See `Prover`."""
        box = box_around(images, ticks, self._normalisation)
        return torch.where(self.proves_box(box, labels), ticks, 0.0)

    @torch.no_grad()
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
        if not (box.lower <= box.upper).all():
            raise ValueError("a box has a lower end above its upper end, or one that is no number")
        return self._judge.proves_box(self._network.feature_bounds(box), labels)

    def level_above(self, eps: Fraction) -> float:
        """See `Prover`."""
        return math.nextafter(largest_float_up_to(eps), math.inf)


def _refuse_unfit(network: LinfNetwork) -> None:
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
