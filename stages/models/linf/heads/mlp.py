"""Linear - tanh - Linear on the features (arXiv:2102.05363, net + MLP).

The features are 1-Lipschitz for l_inf at p = infinity: in the ball they stay within eps_input. The
head carries that box by centre and half-width. Behind a network of whole numbers it works in
float64, every rounding bounded outwards.

B batch, F features, H hidden units, K classes, y true class.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from kernels.layers import Box
from stages.models.family import WorstCase
from stages.models.images import Normalisation
from stages.models.linf.config import MLPHeadSettings
from stages.models.linf.float_error import Reached, rounded_up
from stages.models.linf.head_bounds import FEW, HeadBounds
from stages.models.linf.head_prover import HeadProver
from stages.models.linf.heads.head import (
    FloatJudge,
    Head,
    IntegerBox,
    IntegerHead,
    IntegerJudge,
    ReferenceHead,
)
from stages.models.linf.integer_layer import IntegerLayer, LayerRange
from stages.models.linf.layers.layer import DistanceLayer, TensorReader
from stages.models.margin import margin, predicted_classes

RADIUS_STEPS = 20
"""Bisection steps for a float radius in [0, 1]: it is found to 2^-20 pixel."""
DIGITS = 60
"""Of the decimal arithmetic behind tanh, whose result is then widened by the last ten."""

Number = int | Fraction


class MLPHead(Head):
    """See the module.

    Args:
        num_features: F.
        num_hidden: H.
        num_classes: K.
    """

    def __init__(self, num_features: int, num_hidden: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.first = nn.Linear(num_features, num_hidden)
        self.second = nn.Linear(num_hidden, num_classes)

    @classmethod
    def build(cls, settings: MLPHeadSettings, num_features: int, num_classes: int) -> Self:
        """See `Head`."""
        return cls(num_features, settings.num_hidden, num_classes)

    def forward(self, features: Tensor, p: float) -> Tensor:
        """See `Head`."""
        logits: Tensor = self.second(self.first(features).tanh())
        return logits

    def worst_case(self, features: Tensor, labels: Tensor, p: float, eps_input: float) -> WorstCase:
        """See `Head`."""
        worst = self._worst(features, torch.full_like(features, eps_input), labels)
        return WorstCase(self(features, p), worst)

    def bounds(self, box: Box) -> Box:
        """See `Head`."""
        centre, half = self._hidden_box(*_centre_and_half(box))
        centre, half = self.second(centre), half @ self.second.weight.abs().T
        return Box(centre - half, centre + half)

    def worst_in_box(self, box: Box, labels: Tensor) -> Tensor:
        """See `Head`."""
        return self._worst(*_centre_and_half(box), labels)

    @property
    def distances(self) -> Sequence[DistanceLayer]:
        """None."""
        return ()

    def float_judge(self, reached: Reached, normalisation: Normalisation) -> FloatJudge:
        """See `Head`."""
        bounds = HeadBounds(self.first, self.second)
        prover = HeadProver(bounds, rounded_up(reached.error), reached.largest)
        return _FloatJudge(prover, normalisation.std)

    def integer_part(self) -> tuple[Sequence[IntegerLayer], IntegerHead]:
        """See `Head`."""
        first, second = deepcopy((self.first, self.second))
        head = IntegerMLPHead(first.requires_grad_(False), second.requires_grad_(False))
        return (), head.to("cpu")

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
        return _centre_and_half(Box((centre - half).tanh(), (centre + half).tanh()))


class _FloatJudge:
    """Distance layers in float32, whose error is bounded, then the head in float64."""

    def __init__(self, prover: HeadProver, std: float) -> None:
        self._prover, self._std = prover, std

    def logits(self, features: Tensor) -> Tensor:
        return self._prover.logits(features.double())

    def cube_radius(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        proves = self._prover.prover_around(features.double(), labels)
        proved = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
        step = 0.5
        for _ in range(RADIUS_STEPS):
            radius = proved + step
            is_proved = proves(radius / self._std * (1 + FEW))
            proved = torch.where(is_proved, radius, proved)
            step /= 2
        return proved

    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        lower, upper = box
        return self._prover.proves_box(Box(lower.double(), upper.double()), labels)


@dataclass(frozen=True)
class IntegerMLPHead(IntegerHead):
    """The float32 head on whole features times the unit; it decides in float64.

    Its last bits may differ on another machine.
    """

    kind: ClassVar[str] = "mlp"
    margin_tolerance: ClassVar[float] = 1e-9
    radius_tolerance: ClassVar[int] = 1

    first: nn.Linear
    second: nn.Linear

    def num_classes(self, num_outputs: int) -> int:
        """See `IntegerHead`."""
        return self.second.out_features

    def judge(self, unit: float, span: LayerRange, most: int) -> IntegerJudge:
        """See `IntegerHead`."""
        largest = max(-span.smallest_output, span.largest_output, 1) * unit * (1 + FEW)
        # A feature is a whole number times the unit: three roundings, relative to its size.
        prover = HeadProver(HeadBounds(self.first, self.second), FEW * largest, largest)
        return _IntegerJudge(prover, unit, most)

    def dequantised(
        self, layers: Sequence[tuple[IntegerLayer, int]]
    ) -> tuple[Sequence[tuple[IntegerLayer, int]], Head]:
        """See `IntegerHead`."""
        head = MLPHead(self.first.in_features, self.first.out_features, self.second.out_features)
        head.first.load_state_dict(self.first.state_dict())
        head.second.load_state_dict(self.second.state_dict())
        return layers, head

    def reference(self, unit: Fraction) -> ReferenceHead:
        """See `IntegerHead`."""
        return _Reference(unit, *_fractions(self.first), *_fractions(self.second))

    def tensors(self) -> dict[str, Tensor]:
        """See `IntegerHead`."""
        return {
            f"{name}.{part}": tensor
            for name in ("first", "second")
            for part, tensor in getattr(self, name).state_dict().items()
        }

    @classmethod
    def from_tensors(cls, read: TensorReader, num_outputs: int, num_classes: int) -> Self:
        """See `IntegerHead`."""
        num_hidden = len(read("first.bias", None))
        return cls(
            _linear(read, "first", num_outputs, num_hidden),
            _linear(read, "second", num_hidden, num_classes),
        )

    def to(self, device: torch.device | str) -> Self:
        """See `IntegerHead`."""
        first, second = deepcopy((self.first, self.second))
        return type(self)(first.to(device), second.to(device))


class _IntegerJudge:
    """Features are whole numbers; the head works in float64, every rounding bounded outwards."""

    def __init__(self, prover: HeadProver, unit: float, most: int) -> None:
        self._prover, self._unit, self._most = prover, unit, most

    def answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self._prover.logits(self._features(outputs))
        return predicted_classes(logits, labels), margin(logits, labels)

    def cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        proves = self._prover.prover_around(self._features(outputs), labels)
        proved = torch.zeros_like(labels)
        step = 1 << (self._most.bit_length() - 1)
        while step:
            is_proved = proves((proved + step) * (self._unit / 2) * (1 + FEW))
            proved = torch.where(is_proved, proved + step, proved)
            step //= 2
        return proved.clamp(max=self._most)

    def box_radius(self, box: Box, half_units: Tensor, labels: Tensor) -> Tensor:
        """The features get half a unit more on every side: the proof reaches beyond the box."""
        lower, upper = box
        wider = Box(self._features(lower.double() - 0.5), self._features(upper.double() + 0.5))
        return torch.where(self._prover.proves_box(wider, labels), half_units // 2 * 2 + 1, 0)

    def _features(self, outputs: Tensor) -> Tensor:
        return outputs.double() * self._unit


@dataclass(frozen=True)
class _Reference:
    """The head on outputs times `unit`, all in fractions."""

    unit: Fraction
    first: list[list[Fraction]]
    first_bias: list[Fraction]
    second: list[list[Fraction]]
    second_bias: list[Fraction]

    def refutes(
        self, box: IntegerBox, label: int, half_units: int, reach: int, by_margin: bool
    ) -> str:
        spare = half_units - 2 * reach
        lower, upper = ([2 * end for end in ends] for ends in box)
        wider = [low - spare for low in lower], [high + spare for high in upper]
        return "" if self.proves(wider, label) else "the head does not prove it"

    def proves(self, half_units: IntegerBox, label: int) -> bool:
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
        self, row: list[Fraction], bias: Fraction, half_units: IntegerBox
    ) -> tuple[Fraction, Fraction]:
        lower, upper = half_units
        # The smallest sum is the largest with the ends exchanged.
        least, most = _largest(row, upper, lower), _largest(row, lower, upper)
        return _tanh(least * self.unit / 2 + bias)[0], _tanh(most * self.unit / 2 + bias)[1]


def _centre_and_half(box: Box) -> tuple[Tensor, Tensor]:
    lower, upper = box
    return (lower + upper) / 2, (upper - lower) / 2


def _linear(read: TensorReader, name: str, fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    layer.weight = nn.Parameter(read(f"{name}.weight", (fan_out, fan_in)))
    layer.bias = nn.Parameter(read(f"{name}.bias", (fan_out,)))
    return layer.requires_grad_(False)


def _fractions(layer: nn.Linear) -> tuple[list[list[Fraction]], list[Fraction]]:
    rows = [[Fraction(w) for w in row] for row in layer.weight.tolist()]
    return rows, [Fraction(b) for b in layer.bias.tolist()]


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


HEAD, INTEGER_HEAD = MLPHead, IntegerMLPHead
