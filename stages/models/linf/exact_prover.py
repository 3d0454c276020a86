"""Proofs about integer networks: whole numbers, and for an MLP head bounded float64.

B batch, C channels, H x W pixels. Radii are counted in half units, 1 / (510 s) of a pixel in
[0, 1], because two logits that approach each other by a unit each meet half-way. Every proof is
about the network over the reals, at every point of the ball that is a valid image.
"""

from fractions import Fraction
from math import floor

from torch import Tensor

from kernels.layers import Box
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.prover import MarginProof, Prover


class ExactProver(Prover):
    """What can be proved about one integer network."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._network = network
        self.ticks_per_pixel = 2 * network.units_per_pixel
        self._judge = network.head.judge(network.unit, network.ranges()[-1], self.ticks_per_pixel)

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

    def by_margin(self, images: Tensor, labels: Tensor) -> MarginProof:
        """See `Prover`."""
        outputs = self._network.outputs_of(images)
        radius = self._judge.cube_radius(outputs, labels)
        return MarginProof(*self._judge.answer(outputs, labels), radius)

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """Margins at points: what an attack is judged by.

        Args:
            points: (B, C, H, W) of the network's dtype, 0 <= x <= 255 s.
            labels: int64 (B,).

        Returns:
            float64 (B,); not above 0 means broken.
        """
        return self._judge.answer(self._network.outputs(points), labels)[1]

    def by_box(self, images: Tensor, ticks: Tensor, labels: Tensor) -> Tensor:
        """See `Prover`."""
        box = self._network.output_bounds(self.box_around(images, ticks))
        return self._judge.box_radius(box, ticks, labels)

    def level_above(self, eps: Fraction) -> int:
        """See `Prover`."""
        return floor(eps * self.ticks_per_pixel) + 1
