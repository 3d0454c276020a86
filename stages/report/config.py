"""Settings of the report stage."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import Kinds, StageSettings


class Inputs(StageInputs):
    """What a report is made from."""

    data: Annotated[str, Kinds("shard")]
    """The shard stage: class names, split sizes, and the pixels of the gallery."""
    network: Annotated[str, Kinds("train", "prune")]
    """The stage that made the network: its layers and its history."""
    records: Annotated[str, Kinds("certify")]
    """The certify stage: one row an image, from which every accuracy is counted."""
    pruned: Annotated[str, Kinds("prune")] | None = None
    """A prune stage of the same network, to stand beside it."""
    pruned_records: Annotated[str, Kinds("certify")] | None = None
    """The certify stage of the pruned network."""

    @model_validator(mode="after")
    def _pruned_with_records(self) -> Self:
        if (self.pruned is None) != (self.pruned_records is None):
            raise ValueError("pruned and pruned_records belong together: give both or neither")
        return self


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
