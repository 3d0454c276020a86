"""Exact proofs in Python's own integers: no numpy, no torch, no kernel takes part in them.

Slow (about a tenth of a second for a network of a million edges) and short, so that it can be read
and believed: what `supnorm audit` holds the fast proofs against.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

from kernels import SparseRows
from stages.models.linf.integer_network import IntegerNetwork

DIGITS = 60
"""Of the decimal arithmetic behind tanh, whose result is then widened by the last ten."""

Row = list[tuple[int, int]]
"""The edges of an output: (input, weight)."""
Box = tuple[list[int], list[int]]
"""Lower and upper ends."""
Number = int | Fraction


@dataclass(frozen=True)
class Layer:
    """max over the edges of |x_i - w|, but no less than the floor, minus the offset."""

    rows: list[Row]
    floors: list[int]
    offsets: list[int]

    def box(self, ends: Box) -> Box:
        """The smallest box of outputs over a box of inputs."""
        lower, upper = ends
        nearest, farthest = [], []
        for row, floor, offset in zip(self.rows, self.floors, self.offsets, strict=True):
            near = max((max(lower[i] - w, w - upper[i]) for i, w in row), default=0)
            far = max((max(upper[i] - w, w - lower[i]) for i, w in row), default=0)
            nearest.append(max(near, floor) - offset)
            farthest.append(max(far, floor) - offset)
        return nearest, farthest


@dataclass(frozen=True)
class Head:
    """Linear - tanh - Linear on outputs times `unit`, all in fractions."""

    unit: Fraction
    first: list[list[Fraction]]
    first_bias: list[Fraction]
    second: list[list[Fraction]]
    second_bias: list[Fraction]

    def proves(self, half_units: Box, label: int) -> bool:
        """Whether the label leads for all outputs in a box of half units."""
        pairs = zip(self.first, self.first_bias, strict=True)
        ranges = [self._tanh_range(row, bias, half_units) for row, bias in pairs]
        lower, upper = [low for low, _ in ranges], [high for _, high in ranges]
        own, own_bias = self.second[label], self.second_bias[label]
        for other, (row, bias) in enumerate(zip(self.second, self.second_bias, strict=True)):
            merged = [a - b for a, b in zip(row, own, strict=True)]
            if other != label and bias - own_bias + _largest(merged, lower, upper) >= 0:
                return False
        return True

    def _tanh_range(
        self, row: list[Fraction], bias: Fraction, half_units: Box
    ) -> tuple[Fraction, Fraction]:
        lower, upper = half_units
        # The smallest sum is the largest with the ends exchanged.
        least, most = _largest(row, upper, lower), _largest(row, lower, upper)
        return _tanh(least * self.unit / 2 + bias)[0], _tanh(most * self.unit / 2 + bias)[1]


class ReferenceVerifier:
    """An integer network as lists of Python integers."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._scale = 1 << network.fraction_bits
        self._most = network.units_per_pixel
        self._layers = [_layer(layer.rows, layer.offset.tolist()) for layer in network.layers]
        self._head = _head(network)

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
        spare = half_units - 2 * reach
        if self._head:
            wider = [2 * low - spare for low in box[0]], [2 * high + spare for high in box[1]]
            return "" if self._head.proves(wider, label) else "the head does not prove it"
        lead = min(low for other, low in enumerate(box[0]) if other != label) - box[1][label]
        if by_margin and lead != half_units:
            return f"the margin is {lead} units, not {half_units}"
        return "" if lead >= spare else f"within {reach} units the lead falls to {lead}"


def _layer(rows: object, offsets: list[int]) -> Layer:
    if isinstance(rows, SparseRows):
        values, columns, starts, floors = (part.tolist() for part in rows)
        edges = list(zip(columns, values, strict=True))
        kept = [edges[start:end] for start, end in pairwise(starts)]
        return Layer(kept, floors, offsets)
    weights: Iterable[list[int]] = rows.tolist()  # type: ignore[attr-defined]
    return Layer([list(enumerate(row)) for row in weights], [0] * len(offsets), offsets)


def _head(network: IntegerNetwork) -> Head | None:
    if network.head is None:
        return None
    first, second = network.head
    return Head(
        1 / (network.units_per_pixel * Fraction(network.normalisation.std)),
        [[Fraction(w) for w in row] for row in first.weight.tolist()],
        [Fraction(b) for b in first.bias.tolist()],
        [[Fraction(w) for w in row] for row in second.weight.tolist()],
        [Fraction(b) for b in second.bias.tolist()],
    )


def _largest(
    weights: Iterable[Fraction], lower: Sequence[Number], upper: Sequence[Number]
) -> Fraction:
    """Largest sum of weights times t over lower <= t <= upper."""
    triples = zip(weights, lower, upper, strict=True)
    return sum((w * (high if w > 0 else low) for w, low, high in triples), Fraction(0))


def _tanh(x: Fraction) -> tuple[Fraction, Fraction]:
    """Two fractions with tanh x between them: 1 - 2 / (e^(2x) + 1), and a generous error."""
    with localcontext() as context:
        context.prec = DIGITS
        # Beyond 100 tanh is 1 to 86 digits; cutting x there moves it by less than the error.
        cut = max(min(x, Fraction(100)), Fraction(-100))
        power = (2 * Decimal(cut.numerator) / Decimal(cut.denominator)).exp()
        value = 1 - 2 / (power + 1)
    error = Fraction(1, 10 ** (DIGITS - 10))
    return Fraction(value) - error, Fraction(value) + error
