"""Settings of the shard stage."""

import difflib
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from pipeline.spec.settings import Inputs as StageInputs
from pipeline.spec.settings import StageSettings
from stages.data.catalogue import CATALOGUE


class Inputs(StageInputs):
    """Raw files are no artifact: the shard stage has no inputs."""


class Settings(StageSettings):
    """From raw image files to checksummed WebDataset shards."""

    code_packages: ClassVar[tuple[str, ...]] = ("stages.data",)
    max_ranks: ClassVar[int | None] = 1

    inputs: Inputs = Inputs()
    dataset: str
    """A module of stages/data/datasets, such as fashion_mnist or cifar10, or folder (any tree
    train/<class>/<image>, test/<class>/<image>)."""
    source: Path | None = None
    """Folder of the raw files; default data/<dataset>. `folder` has no default. Pictures changed in
    place are not noticed by a finished stage: shard them again with --force."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides which training images become the validation split, and the order of the others."""
    validation_images: Annotated[int, Field(ge=0)] = 5_000
    """Training images held back, drawn at random, to choose settings by; 0 makes no such split."""
    images_per_block: Annotated[int, Field(ge=1)] = 256
    """Images a tar member. 1 writes a PNG and a .cls file an image: plain pictures for other tools,
    but some hundred times slower to read."""
    shard_bytes: Annotated[int, Field(ge=1)] = 16_000_000
    """Most bytes of pixels in one tar file. A streaming training run needs at least ranks * workers
    files, and reads them whole; very small files are slow on a shared disk."""
    num_workers: Annotated[int, Field(ge=1)] | None = None
    """Threads that decode, compress, hash and write (all of which leave Python's lock); default one
    a core. The files are the same bytes for any number."""

    @field_validator("dataset")
    @classmethod
    def _dataset_is_known(cls, name: str) -> str:
        if name not in CATALOGUE:
            close = difflib.get_close_matches(name, CATALOGUE, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"there is no dataset {name!r}{hint} (known: {', '.join(CATALOGUE)})")
        return name

    @model_validator(mode="after")
    def _folder_names_its_source(self) -> Self:
        if self.dataset == "folder" and self.source is None:
            raise ValueError("dataset `folder` needs `source`: the folder that holds train/, test/")
        return self

    @property
    def source_dir(self) -> Path:
        """The folder of the raw files."""
        return self.source or Path("data") / self.dataset
