"""Exact proofs in Python's own integers: no numpy, no torch, no kernel takes part in them.

Slow (about a tenth of a second for a network of a million edges) and short, so that it can be read
and believed: what `supnorm audit` holds the fast proofs against.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from stages.models.linf.heads.head import IntegerBox
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.layers.layer import Row


@dataclass(frozen=True)
class ReferenceLayer:
    """max over the edges of |x_i - w|, but no less than the floor, minus the offset."""

    rows: list[Row]
    floors: list[int]
    offsets: list[int]

    def box(self, ends: IntegerBox) -> IntegerBox:
        """The smallest box of outputs over a box of inputs."""
        lower, upper = ends
        nearest, farthest = [], []
        for row, floor, offset in zip(self.rows, self.floors, self.offsets, strict=True):
            near = max((max(lower[i] - w, w - upper[i]) for i, w in row), default=0)
            far = max((max(upper[i] - w, w - lower[i]) for i, w in row), default=0)
            nearest.append(max(near, floor) - offset)
            farthest.append(max(far, floor) - offset)
        return nearest, farthest


class ReferenceVerifier:
    """An integer network as lists of Python integers."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._scale = 1 << network.fraction_bits
        self._most = network.units_per_pixel
        self._layers = [
            ReferenceLayer(*layer.weights.reference_rows(), layer.offset.tolist())
            for layer in network.layers
        ]
        unit = 1 / (network.units_per_pixel * Fraction(network.normalisation.std))
        self._head = network.head.reference(unit)

    def refutes(self, pixels: Sequence[int], label: int, half_units: int, by_margin: bool) -> str:
        """What is wrong with the claim that the label is proved below a radius; empty if nothing.

        Args:
            pixels: 0 to 255, channel by channel.
            label: the class.
            half_units: the radius, above 0; half a unit is 1 / (510 s) pixel.
            by_margin: whether the claim rests on the margin, and not on valid pixels alone.
        """
        points = [self._scale * value for value in pixels]
        reach = 0 if by_margin else (half_units - 1) // 2
        box = [max(x - reach, 0) for x in points], [min(x + reach, self._most) for x in points]
        for layer in self._layers:
            box = layer.box(box)
        return self._head.refutes(box, label, half_units, reach, by_margin)
