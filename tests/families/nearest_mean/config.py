from collections.abc import Mapping
from typing import ClassVar, Literal

from stages.data.radius import Norm
from stages.models.kinds import CertifierKind, NetworkKind, TrainingRuleKind


class NearestMeanSettings(NetworkKind):
    kind: Literal["nearest_mean"]
    family: ClassVar[str] = "nearest_mean"
    norm: ClassVar[Norm] = "l2"
    words: ClassVar[Mapping[str, str]] = {"heat": "Falls from 1 to 0 in training."}

    @property
    def is_lipschitz(self) -> bool:
        return True


class PlainRuleSettings(TrainingRuleKind):
    kind: Literal["plain"]
    family: ClassVar[str] = "nearest_mean"
    epochs: float


class DistanceSettings(CertifierKind):
    kind: Literal["distance_to_means"]
    family: ClassVar[str] = "nearest_mean"


NETWORKS = (NearestMeanSettings,)
DERIVED_NETWORKS = ()
TRAINING_RULES = (PlainRuleSettings,)
CERTIFIERS = (DistanceSettings,)
