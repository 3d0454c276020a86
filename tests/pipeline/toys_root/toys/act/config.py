from typing import ClassVar

from pipeline.settings import Inputs as StageInputs
from pipeline.settings import StageSettings


class Inputs(StageInputs):
    data: str | None = None


class Settings(StageSettings):
    code: ClassVar[tuple[str, ...]] = ()

    inputs: Inputs = Inputs()
    what: str
    """Which function of run.py to call."""
    label: str = ""
