from typing import Annotated, ClassVar

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings


class Inputs(StageInputs):
    pages: Annotated[str, Kinds("make")]
    one: Annotated[str, Kinds("make")]
    others: tuple[Annotated[str, Kinds("make")], ...] = ()


class Settings(StageSettings):
    max_ranks: ClassVar[int | None] = 1
    aggregates_sweep: ClassVar[bool] = True

    inputs: Inputs
