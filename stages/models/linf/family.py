"""The family of l_inf-distance networks, as `stages.models.family` asks for it."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from pipeline.errors import UserError
from stages.models.certifier import Certifier, CertifyTask
from stages.models.family import HistorySource, ImageSource, TrainingRule
from stages.models.images import Normalisation
from stages.models.linf.certifier import (
    Ball,
    ExactCertifier,
    FloatCertifier,
    LinfCertifier,
)
from stages.models.linf.config import ExactSettings, FloatSettings, LinfSettings, RisingPSettings
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.integer_file import load_integer_network
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.linf.precision import BY_MARGIN, make_integer_network
from stages.models.linf.pruning import EdgePruner
from stages.models.linf.running_means import reestimate_running_means
from stages.models.linf.training import RisingP
from stages.models.pruning import Pruner


class LinfFamily:
    """Distance networks, certified in balls of the l_inf norm."""

    def build(
        self, settings: LinfSettings, image_shape: Sequence[int], num_classes: int
    ) -> LinfNetwork:
        """See `Family`."""
        return build_network(settings, image_shape, num_classes)

    def training(self, network: LinfNetwork, settings: RisingPSettings) -> TrainingRule:
        """See `Family`: training at a rising p."""
        return RisingP(network, settings)

    def finalise(self, network: LinfNetwork, images: ImageSource) -> None:
        """See `Family`: running means become those at p = infinity."""
        reestimate_running_means(network, images)

    def quick_certifier(self, network: LinfNetwork, normalisation: Normalisation) -> LinfCertifier:
        """See `Family`: the margin in float32, less what rounding could do."""
        return LinfCertifier(FloatProver(network, normalisation), BY_MARGIN, Ball(Fraction(0)))

    def certifier(self, task: CertifyTask) -> Certifier:
        """See `Family`: in floats or in whole numbers, as the settings say."""
        settings: ExactSettings | FloatSettings = task.settings
        ball = Ball(task.eps, task.grid)
        if settings.kind == "float":
            return FloatCertifier(task.loaded, settings, ball)
        network = make_integer_network(
            task.loaded, settings.fraction_bits, task.eps, task.validation
        )
        return ExactCertifier(network.to(task.device), settings, ball, task.loaded)

    def pruner(
        self, network: LinfNetwork, settings: LinfSettings, history: HistorySource
    ) -> Pruner:
        """See `Family`: by how often each edge decides."""
        return EdgePruner(network, settings, history)

    def shipped(
        self,
        folder: Path,
        settings: ExactSettings | FloatSettings,
        eps: Fraction,
        grid: tuple[Fraction, ...],
    ) -> ExactCertifier:
        """See `Family`."""
        if settings.kind == "float":
            raise UserError(
                f"{folder}: certified with certifier {settings.kind}, which ships no network; only "
                "exact can be audited"
            )
        return ExactCertifier(load_integer_network(folder).network, settings, Ball(eps, grid))


FAMILY = LinfFamily()
