"""The verdict on a batch of images: proofs first, then the attack, then one row an image."""

import time

import torch
from torch import Tensor

from pipeline.errors import StageError
from stages.certify.attack import Attack
from stages.certify.ball import InnerBall
from stages.certify.config import Settings
from stages.certify.interval import levels_above, raise_radius
from stages.data.batches import Batch
from stages.data.manifest import image_key
from stages.data.records import Record
from stages.models.margins import is_certified
from stages.models.network_file import LoadedNetwork
from stages.models.provers import MarginProof, prover_for


class Examiner:
    """Certifies and attacks batches with one network.

    Args:
        loaded: the network, in evaluation mode; its parameters are frozen here.
        settings: of the stage.

    Raises:
        UserError: nothing can be proved about the network, or no attack made at this eps.
    """

    def __init__(self, loaded: LoadedNetwork, settings: Settings) -> None:
        self._settings = settings
        self._normalisation = loaded.normalisation
        # The attack needs gradients of images only; those of weights cost as much again.
        network = loaded.network.requires_grad_(False)
        device = next(network.parameters()).device
        self._prover = prover_for(network, loaded.normalisation)
        self._levels = levels_above(settings.grid(), device)
        self._attack = Attack(
            network,
            self._prover,
            loaded.normalisation,
            InnerBall(settings.eps, loaded.normalisation, device),
            settings.attack,
            settings.seed,
        )

    def records(self, batch: Batch) -> list[Record]:
        """One row for each image, in the order of the batch.

        Raises:
            StageError: an image is certified and yet broken.
        """
        start = time.perf_counter()
        proof = self._prover.by_margin(self._normalisation.apply(batch.images), batch.labels)
        radius, methods = self._best_radius(batch, proof)
        certified = is_certified(radius, self._settings.eps)
        worst = self._attack.worst_margins(batch, proof.margin > 0, certified)
        attacked_correct = (proof.margin > 0) & (worst > 0)
        columns = {
            "label": batch.labels,
            "predicted": proof.predicted,
            "margin": proof.margin,
            "radius": radius,
            "certified": certified,
            "attacked_correct": attacked_correct,
        }
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        keys = [image_key(self._settings.split, index) for index in batch.indices.tolist()]
        self._refuse_broken(keys, certified, attacked_correct, proof, radius, worst)
        seconds = (time.perf_counter() - start) / len(batch)
        return [
            Record(key=key, method=method, seconds=seconds, **dict(zip(columns, row, strict=True)))
            for key, method, row in zip(keys, methods, rows, strict=True)
        ]

    def _best_radius(self, batch: Batch, proof: MarginProof) -> tuple[Tensor, list[str]]:
        """The largest radius that a method of the settings proves, and which method it was."""
        methods = self._settings.methods
        by_margin = proof.radius if "margin" in methods else torch.zeros_like(proof.radius)
        radius = by_margin.clone()
        right = (proof.margin > 0).nonzero()[:, 0]
        if "interval" in methods and len(right):
            radius[right] = raise_radius(
                self._prover,
                self._normalisation,
                batch.images[right],
                batch.labels[right],
                by_margin[right],
                self._levels,
                self._settings.radius_steps,
            )
        proved_by = [
            "none" if best == 0 else "interval" if best > first else "margin"
            for best, first in zip(radius.tolist(), by_margin.tolist(), strict=True)
        ]
        return radius, proved_by

    def _refuse_broken(
        self,
        keys: list[str],
        certified: Tensor,
        attacked_correct: Tensor,
        proof: MarginProof,
        radius: Tensor,
        worst: Tensor,
    ) -> None:
        broken = (certified & ~attacked_correct).nonzero()[:, 0].tolist()
        if broken:
            row = broken[0]
            raise StageError(
                f"a certificate is wrong: {keys[row]} is certified (margin {proof.margin[row]:.9g},"
                f" radius {radius[row]:.9g}) but the attack broke it within eps "
                f"{self._settings.eps} (margin there {worst[row]:.9g}). {len(broken)} of "
                f"{len(keys)} images of its batch are broken so. No figure of this run can be "
                "trusted: look for a fault in a kernel, a bound or the normalisation"
            )
