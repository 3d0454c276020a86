"""Settings of how images reach a training run; free of torch."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.spec.settings import Settings


class AugmentSettings(Settings):
    """Random shifts and mirror images of the training images, drawn anew each epoch."""

    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Most pixels that an image is shifted by, up, down, left or right; 0 leaves it in place."""
    pad_mode: Literal["edge", "zero"] = "edge"
    """What fills the pixels that a shift lays bare: the image's edge repeated, or black."""
    flip: bool = False
    """Mirror left and right with probability 1/2. Not for digits and letters."""


class RemoteShards(Settings):
    """Shards that lie elsewhere than in the shard stage's artifact; its manifest stays there."""

    url: str
    """`file:/folder`, `https://host/folder`, or `pipe:command` that writes the shard named {shard}
    to its output."""

    cache_dir: Path
    """Folder on this machine's own disk that keeps a copy of every shard."""

    allow_pipe: bool = False
    """True lets `url` be a shell command. It runs as you: only for a config that you trust."""

    def url_of(self, shard: str) -> str:
        """Return where a shard lies."""
        if self.url.startswith("pipe:"):
            return self.url.replace("{shard}", shard)
        return f"{self.url.rstrip('/')}/{shard}"

    @model_validator(mode="after")
    def _is_of_a_known_kind(self) -> Self:
        if self.url.startswith("pipe:"):
            if not self.allow_pipe:
                raise ValueError("a pipe: url runs a shell; say allow_pipe: true if that is meant")
            if "{shard}" not in self.url:
                raise ValueError("a pipe: url names the shard as {shard}")
        elif not self.url.startswith(("file:", "http://", "https://")):
            raise ValueError(
                f"url {self.url!r} starts with none of file:, http://, https://, pipe:"
            )
        return self
