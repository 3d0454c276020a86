"""The certifiers of distance networks: margin, then interval bounds over the ball's valid images.

B batch, C channels, H x W pixels.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from stages.models.certifier import Certificates, Certifier
from stages.models.images import Normalisation
from stages.models.linf.attack_space import FloatSpace, IntegerSpace
from stages.models.linf.config import ExactSettings, FloatSettings
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.integer_file import load_integer_network, save_integer_network
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.network import LinfNetwork
from stages.models.linf.prover import Prover
from stages.models.linf.quantise import dequantise
from stages.models.linf.reference_verifier import ReferenceVerifier
from stages.models.network_file import LoadedNetwork
from stages.models.radius_search import extend_radius


@dataclass(frozen=True)
class Ball:
    """Which radii a certifier is asked about."""

    eps: Fraction
    """In pixels: that of the attack."""
    grid: tuple[Fraction, ...] = ()
    """Radii, upwards, that interval bounds try."""


class LinfCertifier:
    """Certificates of one prover, without an attack.

    Args:
        prover: of a network.
        settings: which certificates.
        ball: which radii.
    """

    def __init__(self, prover: Prover, settings: ExactSettings | FloatSettings, ball: Ball) -> None:
        self._prover, self._settings, self._ball = prover, settings, ball
        self.description = settings.description

    def certify(self, images: Tensor, labels: Tensor) -> Certificates:
        """See `Certifier`."""
        proof = self._prover.by_margin(images, labels)
        by_margin = proof.radius
        if "margin" not in self._settings.certificates:
            by_margin = torch.zeros_like(by_margin)
        radius, rows = by_margin.clone(), (proof.margin > 0).nonzero()[:, 0]

        def prove_box(some: Tensor, tried: Tensor) -> Tensor:
            return self._prover.by_box(images[rows[some]], tried, labels[rows[some]])

        if "interval" in self._settings.certificates and len(rows):
            levels = [self._prover.level_above(eps) for eps in self._ball.grid]
            radius[rows] = extend_radius(
                prove_box,
                by_margin[rows],
                torch.tensor(levels, dtype=radius.dtype, device=radius.device),
                self._settings.radius_steps,
            )
        is_open = (proof.margin > 0) & (radius < self._prover.level_above(self._ball.eps))
        per_pixel = self._prover.ticks_per_pixel
        return Certificates(
            predicted=proof.predicted,
            margin=proof.margin,
            radius=[Fraction(ticks) / per_pixel for ticks in radius.tolist()],
            method=[
                "none" if best == 0 else "interval" if best > first else "margin"
                for best, first in zip(radius.tolist(), by_margin.tolist(), strict=True)
            ],
            within_slack=self._within_slack(images, labels, is_open),
        )

    def _within_slack(self, images: Tensor, labels: Tensor, is_open: Tensor) -> list[bool]:
        """Whether only what rounding may do keeps open images from being proved at eps."""
        return [False] * len(labels)


class FloatCertifier(LinfCertifier):
    """Certificates of the float32 network, and where it is attacked.

    Args:
        loaded: in evaluation mode; its parameters are frozen here.
        settings: which certificates.
        ball: which radii.

    Raises:
        UserError: nothing can be proved about the network, or no attack made at this eps.
    """

    note = "the float32 network, less all that rounding could do"

    def __init__(self, loaded: LoadedNetwork, settings: FloatSettings, ball: Ball) -> None:
        # The attack needs gradients of images only; those of weights cost as much again.
        self._network: LinfNetwork = loaded.network.requires_grad_(False)
        self._normalisation: Normalisation = loaded.normalisation
        prover = FloatProver(self._network, self._normalisation)
        super().__init__(prover, settings, ball)
        self.attack_space = FloatSpace(self._network, prover, self._normalisation, ball.eps)

    def ship(self, folder: Path) -> Certifier:
        """See `Certifier`: the network that was read is what is certified."""
        return self

    def _within_slack(self, images: Tensor, labels: Tensor, is_open: Tensor) -> list[bool]:
        inputs = self._normalisation.apply(images)
        eps_input = self._normalisation.eps_input(self._ball.eps)
        worst = self._network.worst_case(inputs, labels, math.inf, eps_input).worst
        plainly = worst.scatter(1, labels[:, None], -math.inf).amax(1) < 0
        found: list[bool] = (is_open & plainly).tolist()
        return found


class ExactCertifier(LinfCertifier):
    """Certificates of a network of whole numbers, and where it is attacked.

    Args:
        network: on the device to work on.
        settings: which certificates.
        ball: which radii.
        source: what the network was rounded from, to ship it; None: it was shipped already.
    """

    def __init__(
        self,
        network: IntegerNetwork,
        settings: ExactSettings,
        ball: Ball,
        source: LoadedNetwork | None = None,
    ) -> None:
        self._network, self._exact_settings, self._source = network, settings, source
        prover = ExactProver(network)
        super().__init__(prover, settings, ball)
        self.attack_space = IntegerSpace(dequantise(network), network, prover, ball.eps)
        bits = torch.iinfo(network.dtype).bits
        self.note = f"in {bits}-bit integers, {network.fraction_bits} of them fractional"
        self.margin_tolerance = network.head.margin_tolerance
        self.radius_tolerance = Fraction(network.head.radius_tolerance, network.units_per_pixel)

    def ship(self, folder: Path) -> Certifier:
        """See `Certifier`: `network.int.safetensors` and `network.int.json`."""
        assert self._source is not None
        save_integer_network(folder, self._network.to("cpu"), self._source)
        shipped = load_integer_network(folder).network.to(self._network.device)
        return ExactCertifier(shipped, self._exact_settings, self._ball)

    def verifier(self) -> "ExactVerifier":
        """See `Certifier`: Python integers."""
        return ExactVerifier(self._network)


class ExactVerifier:
    """Repeats proofs in plain Python integers."""

    def __init__(self, network: IntegerNetwork) -> None:
        self._reference = ReferenceVerifier(network)
        self._per_pixel = 2 * network.units_per_pixel

    def refutes(self, image: Tensor, label: int, radius: Fraction, method: str) -> str:
        """See `Verifier`."""
        half_units = radius * self._per_pixel
        if half_units == 0:
            return ""
        if half_units.denominator != 1:
            return "it is no whole number of half units"
        pixels = image.flatten().tolist()
        by_margin = method == "margin"
        return self._reference.refutes(pixels, label, half_units.numerator, by_margin)
