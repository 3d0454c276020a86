"""What a kind of distance layer has to be, as a float32 module and as plain numbers.

B batch, I inputs, O outputs.
"""

import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from kernels import SparseStack
from kernels.layers import Box

Row = list[tuple[int, int]]
"""The edges of an output: (input, weight)."""


class DistanceLayer(Protocol):
    """A float32 layer, 1-Lipschitz for the sup norm at p = infinity; an `nn.Module`."""

    num_inputs: int
    num_outputs: int

    def __call__(self, x: Tensor, p: float) -> Tensor:
        """(B, I) -> (B, O)."""

    def bounds(self, lower: Tensor, upper: Tensor) -> Box:
        """The smallest box of outputs over a box of inputs, at p = infinity."""

    @classmethod
    def build(cls, settings: Any, num_inputs: int) -> Self:
        """The layer that its settings describe, freshly initialised."""

    @property
    def weights(self) -> "Weights":
        """The layer's own tensors as plain numbers."""

    def decayed(self) -> Sequence[nn.Parameter]:
        """The parameters whose rows decay by their l_p norm."""

    def identity_entries(self) -> tuple[Tensor, Tensor] | None:
        """Rows and columns of the weights that start so that they pass an input on; None: none."""


class Weights(ABC):
    """A distance layer as numbers: whole ones, or floats on their way from or to them."""

    kind: ClassVar[str]

    num_outputs: int

    @property
    @abstractmethod
    def numbers(self) -> tuple[Tensor, ...]:
        """The tensors that are lengths, in the unit of the inputs."""

    @abstractmethod
    def distance(self, x: Tensor) -> Tensor:
        """Distances at p = infinity: (B, I) -> (B, O)."""

    @abstractmethod
    def bounds(self, box: Box) -> Box:
        """The smallest box of distances over a box of inputs."""

    @abstractmethod
    def exact_bounds(self, box: Box) -> Box:
        """The same in int64 and without a kernel."""

    @abstractmethod
    def mapped(self, change: Callable[[Tensor], Tensor]) -> Self:
        """The same with each of `numbers` changed; which edges there are stays."""

    @abstractmethod
    def shifted(self, shift: Tensor) -> Self:
        """The same with `shift` (I,) added to the weights of each input."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What a file keeps, by name."""

    @classmethod
    @abstractmethod
    def from_tensors(cls, read: "TensorReader", num_inputs: int, num_outputs: int) -> Self:
        """What `tensors` gave, checked.

        Raises:
            KeyError: a tensor is missing.
            ValueError: one has another shape or type, or holds what cannot be.
        """

    @abstractmethod
    def reference_rows(self) -> tuple[list[Row], list[int]]:
        """The edges of each output, and what its distance is never below, as Python integers."""

    @abstractmethod
    def layer(self, num_inputs: int) -> DistanceLayer:
        """The float32 layer with these numbers."""

    @classmethod
    def stack(
        cls, num_inputs: int, layers: Sequence[tuple["Weights", Tensor]]
    ) -> SparseStack | None:
        """Layers and their offsets laid out for one call; None where this kind has no such call."""
        return None


class TensorReader:
    """Hands out the tensors of one layer of a file, checked."""

    def __init__(
        self, tensors: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self._tensors, self.name, self.dtype = tensors, name, dtype

    def __call__(
        self, part: str, shape: tuple[int, ...] | None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """The tensor `<name>.<part>`.

        Args:
            part: of the name.
            shape: what it must have; None: any.
            dtype: what it must be; None: that of the layer.

        Raises:
            KeyError: it is missing.
            ValueError: shape or type are others, or a float is not finite.
        """
        name, wanted = f"{self.name}.{part}", dtype or self.dtype
        tensor = self._tensors[name]
        if shape is None:
            shape = tuple(tensor.shape)
        if tuple(tensor.shape) != shape or tensor.dtype != wanted:
            raise ValueError(
                f"{name} is {tensor.dtype} {tuple(tensor.shape)}, expected {wanted} {shape}"
            )
        if wanted.is_floating_point and not tensor.isfinite().all():
            raise ValueError(f"{name} holds numbers that are NaN or infinite")
        return tensor


def layer_of(kind: str) -> type[DistanceLayer]:
    """The float32 module of a kind of layer."""
    layer: type[DistanceLayer] = _module(kind).LAYER
    return layer


def weights_of(kind: str) -> type[Weights]:
    """The plain numbers of a kind of layer."""
    weights: type[Weights] = _module(kind).WEIGHTS
    return weights


def _module(kind: str) -> Any:
    package = "stages.models.linf.layers"
    kinds = {found.name for found in pkgutil.iter_modules(import_module(package).__path__)}
    if kind not in kinds - {"layer"}:
        raise ValueError(f"no kind of layer is called {kind}")
    return import_module(f"{package}.{kind}")
