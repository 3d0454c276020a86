"""Proofs about integer networks: whole numbers, and for the head of a hybrid bounded float64.

B batch, C channels, H x W pixels, y true class. Radii are counted in half units, 1 / (510 s) of a
pixel in [0, 1], because two logits that approach each other by a unit each meet half-way. Every
proof is about the network over the reals, at every point of the ball that is a valid image.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.linf.float_error import margin, predicted_classes
from stages.models.linf.head_bounds import FEW, HeadBounds
from stages.models.linf.head_prover import HeadProver
from stages.models.linf.integer_network import IntegerNetwork


class ExactProof(NamedTuple):
    """What the unchanged images say, and what follows for their balls."""

    predicted: Tensor
    """int64 (B,): class of the largest logit; a tie goes against the label."""
    margin: Tensor
    """float64 (B,): logit of the label minus the largest other, in the units of the float32
    network's logits; its sign is exact."""
    radius: Tensor
    """int64 (B,) in half units: proved at every eps < radius, strictly; 0 proves nothing."""


class ExactProver(ABC):
    """What can be proved about one integer network."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._network = network
        self._unit = 1 / (network.units_per_pixel * network.normalisation.std)

    @property
    def half_units_per_pixel(self) -> int:
        """510 s."""
        return 2 * self._network.units_per_pixel

    def radius(self, half_units: int) -> Fraction:
        """A radius in pixels of [0, 1]."""
        return Fraction(half_units, self.half_units_per_pixel)

    def box_around(self, images: Tensor, half_units: Tensor) -> Box:
        """The valid images within a radius: whole units of it, cut to pixels in [0, 1].

        Args:
            images: uint8 (B, C, H, W).
            half_units: int64 (B,).

        Returns:
            Points (B, C, H, W) twice, of the network's dtype.
        """
        points = self._network.points(images).long()
        reach = (half_units // 2).view(-1, 1, 1, 1)
        lower = (points - reach).clamp(min=0)
        upper = (points + reach).clamp(max=self._network.units_per_pixel)
        return Box(lower.to(self._network.dtype), upper.to(self._network.dtype))

    def by_margin(self, images: Tensor, labels: Tensor) -> ExactProof:
        """Predict, and prove what follows from the layers being 1-Lipschitz.

        Args:
            images: uint8 (B, C, H, W).
            labels: int64 (B,).
        """
        outputs = self._network.outputs_of(images)
        predicted, margins = self._answer(outputs, labels)
        return ExactProof(predicted, margins, self._cube_radius(outputs, labels))

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """Margins at points: what an attack is judged by.

        Args:
            points: (B, C, H, W) of the network's dtype, 0 <= x <= 255 s.
            labels: int64 (B,).

        Returns:
            float64 (B,); not above 0 means broken.
        """
        return self._answer(self._network.outputs(points), labels)[1]

    @abstractmethod
    def by_box(self, images: Tensor, half_units: Tensor, labels: Tensor) -> Tensor:
        """Push the ball's valid images through as a box.

        Args:
            images: uint8 (B, C, H, W).
            half_units: int64 (B,), radius of the ball.
            labels: int64 (B,).

        Returns:
            int64 (B,) in half units: a proved radius, at least `half_units`; 0 where the box is not
            proved.
        """

    @abstractmethod
    def _answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted classes and margins, of the last layer's outputs (B, O)."""

    @abstractmethod
    def _cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What is proved if each output moves by no more than the image does: int64 (B,)."""


def exact_prover(network: IntegerNetwork) -> ExactProver:
    """The prover of an integer network."""
    if network.head is None:
        return ExactDistanceProver(network)
    return ExactHybridProver(network)


class ExactDistanceProver(ExactProver):
    """Logits are whole numbers: nothing rounds anywhere."""

    def by_box(self, images: Tensor, half_units: Tensor, labels: Tensor) -> Tensor:
        """See `ExactProver`.

        With radius r units and lead L > 0 at the box's worst, r + L / 2 is proved: a box that is
        wider by t on every side has a lead of at least L - 2 t.
        """
        lower, upper = self._network.output_bounds(self.box_around(images, half_units))
        # The label at its farthest against all others at their nearest.
        lead, _ = _lead(upper.long(), lower.long(), labels)
        return torch.where(lead > 0, half_units // 2 * 2 + lead, 0)

    def _answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        lead, nearest = _lead(outputs.long(), outputs.long(), labels)
        return torch.where(lead > 0, labels, nearest), lead.double() * self._unit

    def _cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        lead, _ = _lead(outputs.long(), outputs.long(), labels)
        return lead.clamp(min=0)


class ExactHybridProver(ExactProver):
    """Features are whole numbers; the head works in float64, every rounding bounded outwards."""

    def __init__(self, network: IntegerNetwork) -> None:
        super().__init__(network)
        assert network.head is not None
        last = network.ranges()[-1]
        largest = max(-last.smallest_output, last.largest_output, 1) * self._unit * (1 + FEW)
        # A feature is a whole number times the unit: three roundings, relative to its size.
        self._head = HeadProver(HeadBounds(*network.head), FEW * largest, largest)

    def by_box(self, images: Tensor, half_units: Tensor, labels: Tensor) -> Tensor:
        """See `ExactProver`.

        The features get half a unit more on every side, so that the proof reaches beyond the box.
        """
        lower, upper = self._network.output_bounds(self.box_around(images, half_units))
        wider = Box(self._features(lower.double() - 0.5), self._features(upper.double() + 0.5))
        return torch.where(self._head.proves_box(wider, labels), half_units // 2 * 2 + 1, 0)

    def _features(self, outputs: Tensor) -> Tensor:
        return outputs.double() * self._unit

    def _answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._head.logits(self._features(outputs))
        return predicted_classes(logits, labels), margin(logits, labels)

    def _cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        proves = self._head.prover_around(self._features(outputs), labels)
        proved = torch.zeros_like(labels)
        step = 1 << (self.half_units_per_pixel.bit_length() - 1)
        while step:
            is_proved = proves((proved + step) * (self._unit / 2) * (1 + FEW))
            proved = torch.where(is_proved, proved + step, proved)
            step //= 2
        return proved.clamp(max=self.half_units_per_pixel)


def _lead(own: Tensor, others: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """By how much the label is nearer than any other class, and the nearest other class.

    Args:
        own: int64 (B, K), distances to the classes; only the label's counts.
        others: int64 (B, K); only those of other classes count.
        labels: int64 (B,).

    Returns:
        int64 (B,) twice; above 0 the label leads. Of two equally near the lower index is named.
    """
    farthest = torch.iinfo(torch.int64).max
    nearest = others.scatter(1, labels[:, None], farthest).min(1)
    return nearest.values - own.gather(1, labels[:, None])[:, 0], nearest.indices
