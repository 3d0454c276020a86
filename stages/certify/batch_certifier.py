"""The verdict on a batch of images: proofs first, then the attack, then one row an image."""

import time

import torch
from torch import Tensor

from pipeline.errors import StageError
from stages.certify.attack import Attack, AttackVerdict
from stages.certify.config import Settings
from stages.data.batches import Batch
from stages.data.manifest import image_key
from stages.data.radius import largest_float_up_to
from stages.data.records import Record, image_digest
from stages.models.certifier import Certificates, Certifier


class BatchCertifier:
    """Certifies and attacks batches with one network.

    Args:
        certifier: of the network.
        settings: of the stage.
    """

    def __init__(self, certifier: Certifier, settings: Settings) -> None:
        self._certifier, self._settings = certifier, settings
        self._attack = Attack(certifier.attack_space, settings.attack, settings.seed)

    def records(self, batch: Batch) -> list[Record]:
        """One row for each image, in the order of the batch.

        Raises:
            StageError: an image is certified and yet broken.
        """
        start = time.perf_counter()
        found = self._certifier.certify(batch.images, batch.labels)
        certified = [self._settings.eps < radius for radius in found.radius]
        is_right = found.margin > 0
        is_certified = torch.tensor(certified, device=is_right.device)
        verdict = self._attack.attack(batch, is_right, is_certified)
        self._refuse_broken(batch, is_certified, found, verdict)
        columns = {
            "key": [image_key(self._settings.split, index) for index in batch.indices.tolist()],
            "label": batch.labels.tolist(),
            "predicted": found.predicted.tolist(),
            "margin": found.margin.tolist(),
            "radius": [largest_float_up_to(radius) for radius in found.radius],
            "certified": certified,
            "attacked_correct": (is_right & (verdict.worst > 0)).tolist(),
            "method": found.method,
            "exact_radius": found.radius,
            "pgd_correct": (is_right & (verdict.after_baseline > 0)).tolist(),
            "image_sha256": [image_digest(image) for image in batch.images.cpu().numpy()],
            "within_slack": found.within_slack,
        }
        rows = [*zip(*columns.values(), strict=True)]
        seconds = (time.perf_counter() - start) / len(batch)
        return [Record(seconds=seconds, **dict(zip(columns, row, strict=True))) for row in rows]

    def _refuse_broken(
        self, batch: Batch, is_certified: Tensor, found: Certificates, verdict: AttackVerdict
    ) -> None:
        broken = (is_certified & ~(verdict.worst > 0)).nonzero()[:, 0].tolist()
        if broken:
            row = broken[0]
            key = image_key(self._settings.split, int(batch.indices[row]))
            raise StageError(
                f"a certificate is wrong: {key} is certified (margin {found.margin[row]:.9g},"
                f" radius {float(found.radius[row]):.9g}) but the attack broke it within eps "
                f"{self._settings.eps} (margin there {verdict.worst[row]:.9g}). {len(broken)} of "
                f"{len(batch)} images of its batch are broken so. No figure of this run can be "
                "trusted: look for a fault in a kernel, a bound or the normalisation"
            )
