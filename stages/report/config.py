"""Settings of the report stage."""

from typing import Annotated, ClassVar

from pydantic import Field

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings


class Inputs(StageInputs):
    """What a report is made from."""

    data: Annotated[str, Kinds("shard")]
    """The shard stage: class names, split sizes, and the pixels of the gallery."""
    records: tuple[Annotated[str, Kinds("certify")], ...] = Field(min_length=1)
    """Certify stages, one a network, of any families: one row an image, from which every accuracy
    is counted. The network is the one that the stage certified; the first opens the page."""


class Settings(StageSettings):
    """How the report looks; what it says comes from the artifacts alone."""

    code_packages: ClassVar[tuple[str, ...]] = ("stages.data", "stages.models")
    max_ranks: ClassVar[int | None] = 1
    aggregates_sweep: ClassVar[bool] = True

    inputs: Inputs
    title: str | None = Field(default=None, min_length=1, max_length=200)
    """Heading of the page; left out, it is made from the data set and eps."""
    gallery_size: int = Field(default=8, ge=0, le=64)
    """Images in each row of the gallery; 0 leaves the gallery out."""
