from typing import Annotated, ClassVar

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings


class Inputs(StageInputs):
    data: Annotated[str, Kinds("make")]
    more: Annotated[str, Kinds("join", "act")] | None = None


class Settings(StageSettings):
    max_ranks: ClassVar[int | None] = 1

    inputs: Inputs
    separator: str = "-"
