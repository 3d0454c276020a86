"""What the rest of the house asks of a family of networks, which is a folder beside this file.

A family's settings (`<family>/config.py`, in the unions of `config.py`) name the family, and
`<family>/family.py` holds its `FAMILY`. Nothing outside the folder knows its layers.

B batch, C channels, H x W pixels, K classes, y true class.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from stages.data.radius import Norm
from stages.models.certifier import Certifier, CertifyTask

ImageSource = Callable[[], Iterable[Tensor]]
"""Gives batches of normalised images (B, C, H, W), the same ones each time it is called."""


class WorstCase(NamedTuple):
    """Logits, and how far each class may overtake the true one in the ball."""

    logits: Tensor
    """(B, K) at the centre of the ball."""
    worst: Tensor
    """(B, K): bound on max (z_j - z_y) over the ball for j != y; 0 for y. In training a surrogate,
    which proves nothing."""


@dataclass(frozen=True)
class Surrogate:
    """What a training step uses in place of the network that will be certified."""

    rise: float
    """How far the surrogate has become the certified network: 0 at first, 1 at the end."""
    columns: Mapping[str, float] = field(default_factory=dict)
    """What the history and the display show of it."""


class StateAccess(Protocol):
    """Whole tensors of a training state, wherever a ZeRO stage has put their parts."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter; it may be the live one."""

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set the whole parameter, the same on every rank."""


class TrainingRule(Protocol):
    """What a family adds to the training of one network."""

    def surrogate_at(self, epoch: float) -> Surrogate:
        """What a step at this point of the training uses; a function of `epoch` alone."""

    def worst_case(
        self, images: Tensor, labels: Tensor, surrogate: Surrogate, eps_input: float
    ) -> WorstCase:
        """Logits and worst-case differences of normalised images (B, C, H, W)."""

    def watch(self) -> None:
        """Put hooks on the network that correct its gradients; called once, before training."""

    def decay_(self, surrogate: Surrogate, amount: float, access: StateAccess) -> None:
        """Decoupled weight decay of every weight, in place; `amount` is learning rate * lambda."""


class Family(Protocol):
    """One kind of network: how it is built, trained and certified."""

    norm: Norm
    """Of the balls in which its networks are certified."""

    def build(self, settings: Any, image_shape: Sequence[int], num_classes: int) -> nn.Module:
        """The network that the settings describe, freshly initialised from torch's generator."""

    def training(self, network: nn.Module, settings: Any) -> TrainingRule:
        """The rule by which `network` is trained; `settings` are the family's own."""

    def finalise(self, network: nn.Module, images: ImageSource) -> None:
        """From the trained weights to the network that is certified; in evaluation mode after."""

    def certifier(self, task: CertifyTask) -> Certifier:
        """What proves and judges images with one network."""


class NetworkKind(Protocol):
    """Settings of a network, as `network.json` keeps them."""

    kind: Any
    family: ClassVar[str]
    """Name of the family's folder."""


def family_of(settings: NetworkKind) -> Family:
    """The family of a network, found by the folder that its settings name."""
    family: Family = importlib.import_module(f"stages.models.{settings.family}.family").FAMILY
    return family
