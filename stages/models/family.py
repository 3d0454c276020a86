"""What the rest of the house asks of a family of networks, which is a folder beside this file.

A family's settings (`<family>/config.py`, in the unions of `config.py`) name the family, and
`<family>/family.py` holds its `FAMILY`. Nothing outside the folder knows its layers.

B batch, C channels, H x W pixels, K classes, y true class.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from stages.data.history import HistoryLine
from stages.models.certifier import AuditedCertifier, Certifier, Certifies, CertifyTask
from stages.models.images import Normalisation

if TYPE_CHECKING:
    from stages.models.pruning import Pruner

ImageSource = Callable[[], Iterable[Tensor]]
"""Gives batches of normalised images (B, C, H, W), the same ones each time it is called."""

HistorySource = Callable[[], Sequence[HistoryLine]]
"""Reads the history of a network's training."""


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


class TrainingRule(Protocol):
    """What a family adds to the training of one network."""

    def surrogate_at(self, epoch: float) -> Any:
        """The `Surrogate` that a step at this point uses; a function of `epoch` alone."""

    def worst_case(
        self, images: Tensor, labels: Tensor, surrogate: Any, eps_input: float
    ) -> WorstCase:
        """Logits and worst-case differences of normalised images (B, C, H, W)."""

    def watch(self) -> None:
        """Put hooks on the network that correct its gradients; called once, before training."""

    def decay_norms(self, surrogate: Any) -> Sequence[tuple[Sequence[nn.Parameter], float]]:
        """All parameters in groups, always the same ones, each with the norm of its decay.

        A group's rows share the weight decay out by that norm; 2 is ordinary decay.
        """


class Family(Protocol):
    """One kind of network: how it is built, trained and certified."""

    def build(self, settings: Any, image_shape: Sequence[int], num_classes: int) -> Any:
        """The network that the settings describe, freshly initialised from torch's generator."""

    def training(self, network: Any, settings: Any) -> TrainingRule:
        """The rule by which `network` is trained; `settings` are `config.TrainingRuleSettings`."""

    def finalise(self, network: Any, images: ImageSource) -> None:
        """From the trained weights to the network that is certified; in evaluation mode after."""

    def quick_certifier(self, network: Any, normalisation: Normalisation) -> Certifies:
        """What proves images in about one forward pass: for validation."""

    def certifier(self, task: CertifyTask) -> Certifier:
        """What proves and attacks images with one network; its parameters may be frozen here.

        Raises:
            UserError: nothing can be proved about the network, or no attack made at this eps.
        """

    def pruner(self, network: Any, settings: Any, history: HistorySource) -> "Pruner":
        """What prunes a network, given what it was built from and how it was trained.

        Raises:
            UserError: pruning means nothing for this network.
        """

    def shipped(
        self, folder: Path, settings: Any, eps: Fraction, grid: tuple[Fraction, ...]
    ) -> AuditedCertifier:
        """The certifier of the network that `Certifier.ship` left in a folder.

        Raises:
            UserError: certificates of these settings cannot be audited.
            StageError: a file is missing or damaged.
        """


def family_of(settings: Any) -> Family:
    """The family of a network or certifier, found by the folder that its settings name.

    Args:
        settings: a member of one of the unions of `config.py`.
    """
    family: Family = importlib.import_module(f"stages.models.{settings.family}.family").FAMILY
    return family
