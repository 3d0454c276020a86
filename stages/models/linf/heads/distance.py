"""Logits are minus the distances of a last distance layer, plus a bias: each is 1-Lipschitz.

B batch, F features, K classes, y true class.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from kernels.layers import Box
from stages.models.family import WorstCase
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceHeadSettings
from stages.models.linf.float_error import Reached, float_slack, margin_radius
from stages.models.linf.heads.head import (
    FloatJudge,
    Head,
    IntegerBox,
    IntegerHead,
    IntegerJudge,
    ReferenceHead,
    zero_at,
)
from stages.models.linf.integer_layer import IntegerLayer, LayerRange
from stages.models.linf.layers.layer import DistanceLayer, layer_of
from stages.models.margin import margin


class DistanceHead(Head):
    """A margin above 2 eps_input is a certificate.

    Args:
        distance: its outputs are the classes.
    """

    def __init__(self, distance: DistanceLayer) -> None:
        super().__init__()
        self.distance = distance
        self.num_classes = distance.num_outputs
        self.bias = nn.Parameter(torch.zeros(self.num_classes))

    @classmethod
    def build(cls, settings: DistanceHeadSettings, num_features: int, num_classes: int) -> Self:
        """See `Head`."""
        return cls(layer_of(settings.layer.kind).build(settings.layer, num_features))

    def forward(self, features: Tensor, p: float) -> Tensor:
        """See `Head`."""
        return -(self.distance(features, p) + self.bias)

    def worst_case(self, features: Tensor, labels: Tensor, p: float, eps_input: float) -> WorstCase:
        """See `Head`: both logits move by at most `eps_input`."""
        logits = self(features, p)
        differences = logits - logits.gather(1, labels[:, None])
        return WorstCase(logits, zero_at(differences + 2 * eps_input, labels))

    def bounds(self, box: Box) -> Box:
        """See `Head`."""
        lower, upper = self.distance.bounds(*box)
        return Box(-(upper + self.bias), -(lower + self.bias))

    def worst_in_box(self, box: Box, labels: Tensor) -> Tensor:
        """See `Head`."""
        lower, upper = self.bounds(box)
        return zero_at(upper - lower.gather(1, labels[:, None]), labels)

    @property
    def distances(self) -> Sequence[DistanceLayer]:
        """See `Head`."""
        return (self.distance,)

    def float_judge(self, reached: Reached, normalisation: Normalisation) -> FloatJudge:
        """See `Head`."""
        return _FloatJudge(self, float_slack(self, reached), normalisation.std)

    def integer_part(self) -> tuple[Sequence[IntegerLayer], IntegerHead]:
        """See `Head`."""
        layer = IntegerLayer(self.distance.weights, -self.bias.detach())
        return (layer,), NearestClass()


class _FloatJudge:
    def __init__(self, head: DistanceHead, slack: float, std: float) -> None:
        self._head, self._slack, self._std = head, slack, std

    def logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self._head(features, math.inf)
        return logits.double()

    def cube_radius(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        return margin_radius(margin(logits, labels), self._slack, self._std)

    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        lower, upper = self._head.bounds(box)
        # The label at its worst against all others at their best.
        ends = upper.scatter(1, labels[:, None], lower.gather(1, labels[:, None]))
        lead = margin(ends, labels)
        return (lead > self._slack) & lead.isfinite()


class NearestClass(IntegerHead):
    """The logits are minus the last layer's outputs: nothing rounds anywhere."""

    kind: ClassVar[str] = "distance"

    def num_classes(self, num_outputs: int) -> int:
        """See `IntegerHead`."""
        return num_outputs

    def judge(self, unit: float, span: LayerRange, most: int) -> IntegerJudge:
        """See `IntegerHead`."""
        return _IntegerJudge(unit)

    def dequantised(
        self, layers: Sequence[tuple[IntegerLayer, int]]
    ) -> tuple[Sequence[tuple[IntegerLayer, int]], Head]:
        """See `IntegerHead`."""
        *hidden, (last, fan_in) = layers
        head = DistanceHead(last.weights.layer(fan_in))
        head.bias.data.copy_(-last.offset)
        return hidden, head

    def reference(self, unit: Fraction) -> ReferenceHead:
        """See `IntegerHead`."""
        return _Reference()


class _IntegerJudge:
    def __init__(self, unit: float) -> None:
        self._unit = unit

    def answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        lead, nearest = _lead(outputs.long(), outputs.long(), labels)
        return torch.where(lead > 0, labels, nearest), lead.double() * self._unit

    def cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        lead, _ = _lead(outputs.long(), outputs.long(), labels)
        return lead.clamp(min=0)

    def box_radius(self, box: Box, half_units: Tensor, labels: Tensor) -> Tensor:
        """With radius r units and lead L > 0 at the box's worst, r + L / 2 is proved.

        A box that is wider by t on every side has a lead of at least L - 2 t.
        """
        # The label at its farthest against all others at their nearest.
        lead, _ = _lead(box.upper.long(), box.lower.long(), labels)
        return torch.where(lead > 0, half_units // 2 * 2 + lead, 0)


class _Reference:
    def refutes(
        self, box: IntegerBox, label: int, half_units: int, reach: int, by_margin: bool
    ) -> str:
        lower, upper = box
        lead = min(low for other, low in enumerate(lower) if other != label) - upper[label]
        if by_margin and lead != half_units:
            return f"the margin is {lead} units, not {half_units}"
        if lead < half_units - 2 * reach:
            return f"within {reach} units the lead falls to {lead}"
        return ""


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


HEAD, INTEGER_HEAD = DistanceHead, NearestClass
