"""How a distance network is trained: at a norm p that rises to infinity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from stages.models.family import Surrogate, WorstCase
from stages.models.linf.config import RisingPSettings
from stages.models.linf.identity_gradient_mask import mask_identity_gradients
from stages.models.linf.network import LinfNetwork


@dataclass(frozen=True)
class SurrogateAtP(Surrogate):
    """The network at a norm p of its distance layers; math.inf is the network itself."""

    p: float = math.inf


class RisingP:
    """The `TrainingRule` of distance networks.

    Args:
        network: what is trained.
        settings: of the rise.
    """

    def __init__(self, network: LinfNetwork, settings: RisingPSettings) -> None:
        self._network, self._settings = network, settings
        self._distances = [weight for one in network.distances for weight in one.decayed()]
        known = {id(weight) for weight in self._distances}
        self._others = [weight for weight in network.parameters() if id(weight) not in known]

    def surrogate_at(self, epoch: float) -> SurrogateAtP:
        """P waits at `start`, rises exponentially to `end`, then is infinite."""
        settings, rise = self._settings, self._rise(epoch)
        p = math.inf
        if epoch < settings.infinite_epoch:
            p = settings.start * math.pow(settings.end / settings.start, rise)
        return SurrogateAtP(rise, {"p": p}, p)

    def worst_case(
        self, images: Tensor, labels: Tensor, surrogate: SurrogateAtP, eps_input: float
    ) -> WorstCase:
        """Logits and worst-case differences from one pass at the surrogate's p."""
        return self._network.worst_case(images, labels, surrogate.p, eps_input)

    def watch(self) -> None:
        """Leave weights alone whose gradient is rounding noise."""
        mask_identity_gradients(self._network)

    def decay_norms(
        self, surrogate: SurrogateAtP
    ) -> Sequence[tuple[Sequence[nn.Parameter], float]]:
        """Distance layers decay at the surrogate's p, everything else at 2."""
        return (self._distances, surrogate.p), (self._others, 2.0)

    def _rise(self, epoch: float) -> float:
        """How much of the rise of p is done, in [0, 1]."""
        start, end = self._settings.rise_epoch, self._settings.infinite_epoch
        if epoch >= end:
            return 1.0
        return min(max((epoch - start) / (end - start), 0.0), 1.0) if epoch > start else 0.0
