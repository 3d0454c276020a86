from typing import Literal

from stages.train.losses.settings import MarginLossSettings


class SquaredHingeSettings(MarginLossSettings):
    kind: Literal["squared_hinge"]
