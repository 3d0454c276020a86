"""What each method of certification says of a batch of images, and where it is attacked.

`exact` is about an integer network, in whole numbers; `float` about the float32 network, from whose
margins the largest possible rounding has been taken off.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import floor, inf

import torch
from torch import Tensor

from stages.certify.config import Settings
from stages.data.radius import largest_float_up_to
from stages.models.linf.attack_space import AttackSpace, FloatSpace, IntegerSpace
from stages.models.linf.ball import box_around
from stages.models.linf.exact_certifier import exact_prover
from stages.models.linf.float_certifier import prover_for
from stages.models.linf.float_error import is_certified
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.quantise import dequantise
from stages.models.network_file import LoadedNetwork
from stages.models.radius_search import extend_radius


@dataclass(frozen=True)
class Findings:
    """What is proved of each image of a batch."""

    predicted: Tensor
    """int64 (B,): class of the largest logit; a tie goes against the label."""
    margin: Tensor
    """float64 (B,): logit of the label minus the largest other."""
    radius: list[Fraction]
    """In pixels: proved at every eps < radius, strictly; 0 where nothing is proved."""
    method: list[str]
    """What proved the radius: `margin`, `interval` or `none`."""
    within_slack: list[bool]
    """Not proved at the run's eps only because of what is allowed for rounding."""


class Proofs(ABC):
    """A method of certification, ready for one network."""

    attack_space: AttackSpace
    """Where the same network is attacked."""

    @abstractmethod
    def prove(self, images: Tensor, labels: Tensor) -> Findings:
        """Prove what can be proved.

        Args:
            images: uint8 (B, C, H, W).
            labels: int64 (B,).
        """


class ExactProofs(Proofs):
    """Proofs about an integer network.

    Args:
        network: on the device to work on.
        num_classes: K.
        settings: of the stage.
    """

    def __init__(self, network: IntegerNetwork, num_classes: int, settings: Settings) -> None:
        self._prover = exact_prover(network)
        self._settings = settings
        device = network.device
        per_pixel = self._prover.half_units_per_pixel
        levels = [floor(eps * per_pixel) + 1 for eps in settings.grid()]
        self._levels = torch.tensor(levels, device=device)
        twin = dequantise(network, num_classes)
        self.attack_space = IntegerSpace(twin, network, self._prover, settings.eps)

    def prove(self, images: Tensor, labels: Tensor) -> Findings:
        """See `Proofs`."""
        proof = self._prover.by_margin(images, labels)

        def prove_box(rows: Tensor, half_units: Tensor) -> Tensor:
            return self._prover.by_box(images[rows], half_units, labels[rows])

        radius, method = _best_radius(
            self._settings, proof.radius, proof.margin > 0, self._levels, prove_box
        )
        exact = [self._prover.radius(half_units) for half_units in radius.tolist()]
        return Findings(proof.predicted, proof.margin, exact, method, [False] * len(exact))


class FloatProofs(Proofs):
    """Proofs about the float32 network, its rounding subtracted.

    Args:
        loaded: the network, in evaluation mode; its parameters are frozen here.
        settings: of the stage.

    Raises:
        UserError: nothing can be proved about the network, or no attack made at this eps.
    """

    def __init__(self, loaded: LoadedNetwork, settings: Settings) -> None:
        self._normalisation, self._settings = loaded.normalisation, settings
        # The attack needs gradients of images only; those of weights cost as much again.
        self._network = network = loaded.network.requires_grad_(False)
        self._prover = prover_for(network, loaded.normalisation)
        self._levels = levels_above(settings.grid(), next(network.parameters()).device)
        self.attack_space = FloatSpace(network, self._prover, loaded.normalisation, settings.eps)

    def prove(self, images: Tensor, labels: Tensor) -> Findings:
        """See `Proofs`."""
        inputs = self._normalisation.apply(images)
        proof = self._prover.by_margin(inputs, labels)

        def prove_box(rows: Tensor, radius: Tensor) -> Tensor:
            box = box_around(images[rows], radius, self._normalisation)
            return torch.where(self._prover.proves_box(box, labels[rows]), radius, 0.0)

        radius, method = _best_radius(
            self._settings, proof.radius, proof.margin > 0, self._levels, prove_box
        )
        is_open = (proof.margin > 0) & ~is_certified(radius, self._settings.eps)
        within_slack = is_open & self._is_plainly_certified(inputs, labels)
        exact = [*map(Fraction, radius.tolist())]
        return Findings(proof.predicted, proof.margin, exact, method, within_slack.tolist())

    def _is_plainly_certified(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """What float32 says at the run's eps without any slack; it proves nothing."""
        eps_input = self._normalisation.eps_input(self._settings.eps)
        worst = self._network.worst_case(inputs, labels, inf, eps_input).worst
        return worst.scatter(1, labels[:, None], -inf).amax(1) < 0


def levels_above(grid: Iterable[Fraction], device: torch.device) -> Tensor:
    """For each radius of a grid the smallest float64 above it: a proof there is a proof at it.

    Returns:
        float64, upwards.
    """
    radii = torch.tensor([largest_float_up_to(eps) for eps in sorted(grid)], dtype=torch.float64)
    return torch.nextafter(radii, torch.tensor(torch.inf, dtype=torch.float64)).to(device)


def _best_radius(
    settings: Settings,
    by_margin: Tensor,
    is_right: Tensor,
    levels: Tensor,
    prove_box: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, list[str]]:
    """The largest radius that a certificate of the settings proves, and which one it was.

    Args:
        settings: which certificates.
        by_margin: (B,), what the margin proves.
        is_right: bool (B,); a box is tried for no other image.
        levels: radii that boxes are tried at, in the unit of `by_margin`.
        prove_box: from rows and radii to the radii that boxes prove.
    """
    if "margin" not in settings.certificates:
        by_margin = torch.zeros_like(by_margin)
    radius, rows = by_margin.clone(), is_right.nonzero()[:, 0]
    if "interval" in settings.certificates and len(rows):
        radius[rows] = extend_radius(
            lambda some, tried: prove_box(rows[some], tried),
            by_margin[rows],
            levels,
            settings.radius_steps,
        )
    method = [
        "none" if best == 0 else "interval" if best > first else "margin"
        for best, first in zip(radius.tolist(), by_margin.tolist(), strict=True)
    ]
    return radius, method
