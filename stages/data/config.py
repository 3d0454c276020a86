"""Settings of how images reach a training run; free of torch."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Settings


class AugmentSettings(Settings):
    """Random shifts and mirror images of the training images, drawn anew each epoch."""

    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Most pixels that an image is shifted by, up, down, left or right; 0 leaves it in place."""
    pad_mode: Literal["edge", "zero"] = "edge"
    """What fills the pixels that a shift lays bare: the image's edge repeated, or black."""
    flip: bool = False
    """Mirror left and right with probability 1/2. Not for digits and letters."""
