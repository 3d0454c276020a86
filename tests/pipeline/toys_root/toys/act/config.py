from typing import ClassVar

from pipeline.settings import StageSettings


class Settings(StageSettings):
    code: ClassVar[tuple[str, ...]] = ()

    what: str
    """Which function of run.py to call."""
    label: str = ""
