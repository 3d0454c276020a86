from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pipeline.spec.settings import Settings as Group
from pipeline.spec.settings import StageSettings
from stages.data.radius import ExactFraction


class Ink(Enum):
    BLACK = "black"
    BLUE = "blue"


class Pen(Group):
    kind: Literal["pen"]
    width: int = Field(ge=1, le=9)
    """Thickness of the line in pixels."""
    ink: Ink = Ink.BLACK


class Brush(Group):
    kind: Literal["brush"]
    hairs: int
    softness: float = Field(0.5, gt=0, lt=1)


class Paper(Group):
    size: tuple[int, int] = (28, 28)
    margin: float | None = None

    @model_validator(mode="after")
    def _is_wide_enough(self) -> Self:
        if self.size[0] < self.size[1]:
            raise ValueError(f"size {list(self.size)}: the first must not be the smaller one")
        return self


class Settings(StageSettings):
    runtime_only: ClassVar[tuple[str, ...]] = ("mode",)

    text: str
    """What is written. Every letter counts."""
    count: int = Field(1, gt=0)
    rate: float = 1.0
    loud: bool = False
    eps: ExactFraction = "0"
    eps_grid: tuple[ExactFraction, ...] = ()
    tool: Annotated[Pen | Brush, Field(discriminator="kind")] = Pen(kind="pen", width=1)
    paper: Paper = Paper()
    source: Path | None = None
    mode: Literal["fast", "careful"] = "fast"
    amount: int | str = 1
    table: dict[str, int] = Field(default_factory=dict)
    seed: int = 0
