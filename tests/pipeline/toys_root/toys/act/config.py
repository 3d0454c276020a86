from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import StageSettings


class Inputs(StageInputs):
    data: str | None = None


class Settings(StageSettings):
    inputs: Inputs = Inputs()
    what: str
    """Which function of run.py to call."""
    label: str = ""
