"""What a kind of head has to be: trained and bounded in float32, and proved about.

B batch, F features, K classes, y true class, O outputs of the last integer layer.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from kernels.layers import Box
from stages.models.family import WorstCase
from stages.models.images import Normalisation
from stages.models.linf.float_error import Reached
from stages.models.linf.integer_layer import IntegerLayer, LayerRange
from stages.models.linf.layers.layer import DistanceLayer, TensorReader

IntegerBox = tuple[list[int], list[int]]
"""Lower and upper ends, as Python integers."""


class Head(nn.Module, ABC):
    """The last part of a network in float32."""

    num_classes: int

    @classmethod
    @abstractmethod
    def build(cls, settings: Any, num_features: int, num_classes: int) -> Self:
        """The head that its settings describe, freshly initialised."""

    @abstractmethod
    def forward(self, features: Tensor, p: float) -> Tensor:
        """Features (B, F) -> logits (B, K)."""

    @abstractmethod
    def worst_case(self, features: Tensor, labels: Tensor, p: float, eps_input: float) -> WorstCase:
        """Logits, and bounds of their differences while each feature moves by `eps_input`."""

    @abstractmethod
    def bounds(self, box: Box) -> Box:
        """Box of the logits over a box of features (B, F), at p = infinity."""

    @abstractmethod
    def worst_in_box(self, box: Box, labels: Tensor) -> Tensor:
        """Bound on z_j - z_y over a box of features: (B, K), 0 for y."""

    @property
    @abstractmethod
    def distances(self) -> Sequence[DistanceLayer]:
        """The distance layers of the head, first to last."""

    @abstractmethod
    def float_judge(self, reached: Reached, normalisation: Normalisation) -> "FloatJudge":
        """What proves labels from float32 features.

        Args:
            reached: what the features can be, and by how much they may be off.
            normalisation: what the network expects of its images.
        """

    @abstractmethod
    def integer_part(self) -> tuple[Sequence[IntegerLayer], "IntegerHead"]:
        """The layers of numbers that the head adds to the hidden ones, and what follows them."""


class FloatJudge(Protocol):
    """Proves labels from float32 features; holds for real arithmetic and for `logits` itself."""

    def logits(self, features: Tensor) -> Tensor:
        """The logits that predictions and proofs are about: float32 (B, F) -> float64 (B, K)."""

    def cube_radius(self, features: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Radius in pixels that is proved if each feature moves by no more than the image does.

        Args:
            features: float32 (B, F).
            logits: of these features.
            labels: int64 (B,).

        Returns:
            float64 (B,): proved at every eps < radius, strictly; 0 proves nothing.
        """

    def proves_box(self, box: Box, labels: Tensor) -> Tensor:
        """Whether the label is proved for all features in a box, float32 (B, F): bool (B,)."""


class IntegerHead(ABC):
    """What follows the last integer layer of a network."""

    kind: ClassVar[str]

    margin_tolerance: ClassVar[float] = 0.0
    """By how much of itself a margin may differ on another machine."""
    radius_tolerance: ClassVar[int] = 0
    """By how many units a radius may differ on another machine."""

    @abstractmethod
    def num_classes(self, num_outputs: int) -> int:
        """K, from the outputs of the last integer layer."""

    @abstractmethod
    def judge(self, unit: float, span: LayerRange, most: int) -> "IntegerJudge":
        """What proves labels from the last integer layer's outputs.

        Args:
            unit: of the outputs, in the units of the float32 network's features.
            span: what the last integer layer can reach.
            most: the largest radius of interest, in half units: the whole range of a pixel.
        """

    @abstractmethod
    def dequantised(
        self, layers: Sequence[tuple[IntegerLayer, int]]
    ) -> tuple[Sequence[tuple[IntegerLayer, int]], Head]:
        """The hidden layers among those of a network in float32, and the head behind them.

        Args:
            layers: each in floats, with its number of inputs.
        """

    @abstractmethod
    def reference(self, unit: Fraction) -> "ReferenceHead":
        """The head in plain Python, for outputs in that unit."""

    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps, by name."""
        return {}

    @classmethod
    def from_tensors(cls, read: TensorReader, num_outputs: int, num_classes: int) -> Self:
        """What `tensors` gave, checked; errors as of `Weights.from_tensors`."""
        return cls()

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return self


class IntegerJudge(Protocol):
    """Proves labels from the whole outputs (B, O) of the last integer layer."""

    def answer(self, outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted classes, int64 (B,), and margins, float64 (B,), whose sign is exact."""

    def cube_radius(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """What is proved if each output moves by no more than the image: int64 (B,), half units."""

    def box_radius(self, box: Box, half_units: Tensor, labels: Tensor) -> Tensor:
        """What the box of outputs over a ball proves.

        Args:
            box: (B, O), over the valid images within `half_units`.
            half_units: int64 (B,), radius of the ball.
            labels: int64 (B,).

        Returns:
            int64 (B,) in half units: a proved radius, at least `half_units`; 0 where none is.
        """


class ReferenceHead(Protocol):
    """A head in plain Python."""

    def refutes(
        self, box: IntegerBox, label: int, half_units: int, reach: int, by_margin: bool
    ) -> str:
        """What is wrong with the claim that the label is proved below a radius; empty if nothing.

        Args:
            box: lower and upper outputs over the valid images within `reach` units.
            label: the class.
            half_units: the radius that is claimed.
            reach: 0 where the claim rests on the margin.
            by_margin: whether it does, and not on valid pixels alone.
        """


def head_of(kind: str) -> type[Head]:
    """The float32 module of a kind of head."""
    head: type[Head] = _module(kind).HEAD
    return head


def integer_head_of(kind: str) -> type[IntegerHead]:
    """What a kind of head is behind a network of whole numbers."""
    head: type[IntegerHead] = _module(kind).INTEGER_HEAD
    return head


def _module(kind: str) -> Any:
    package = "stages.models.linf.heads"
    kinds = {found.name for found in pkgutil.iter_modules(import_module(package).__path__)}
    if kind not in kinds - {"head"}:
        raise ValueError(f"no kind of head is called {kind}")
    return import_module(f"{package}.{kind}")


def zero_at(differences: Tensor, labels: Tensor) -> Tensor:
    """Differences (B, K) with 0 for the true class."""
    return differences.scatter(1, labels[:, None], 0.0)
