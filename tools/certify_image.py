"""`supnorm certify-image`: a picture's class, its proved radius, and what the proof rests on."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import UserError
from pipeline.selection import Runs
from stages.data.radius import largest_float_up_to
from stages.data.records import image_digest
from stages.models.linf.certifier import Ball, ExactCertifier
from stages.models.linf.config import ExactSettings
from stages.models.linf.integer_file import (
    INTEGER_DESCRIPTION_NAME,
    LoadedIntegerNetwork,
    load_integer_network,
)

MODES = {1: "L", 3: "RGB"}
"""Pillow's name of plain 8-bit pictures with so many channels."""
SETTINGS = ExactSettings(radius_steps=20)


@dataclass(frozen=True)
class PictureProof:
    """What is proved about one picture."""

    predicted: int
    """Index of the class; where two are equally near, one of them, and the radius is 0."""
    class_name: str
    radius: Fraction
    """In pixels of [0, 1]: no change of at most eps a pixel alters the class, for any eps < radius.
    0: a tie, or nothing proved."""
    method: str
    """What proved the radius: `margin`, `interval` or `none`."""
    margin: float
    """Lead over the next class, in units of logits."""
    image_sha256: str
    """Of the pixels, as in records.csv."""
    network_sha256: str
    """Of network.int.safetensors."""


def certify_image(
    paths: Annotated[list[Path], typer.Argument(metavar="PICTURE...", help="PNG or JPEG files.")],
    network: Annotated[
        Path | None,
        typer.Option(
            "--network",
            metavar="DIR",
            help="Folder of network.int.json; default: the only one under the folder of runs, or "
            "the only one there that is called certify.",
        ),
    ] = None,
    runs: Runs = Path("runs"),
) -> None:
    """Print each picture's class, and the radius up to which no change can alter it."""
    folder = network or _only_network(runs)
    loaded = load_integer_network(folder)
    proofs = [certify_picture(loaded, read_picture(path, loaded)) for path in paths]
    bits = loaded.network.fraction_bits
    print(f"network {folder}, of {loaded.dataset}, {bits} fractional bits", flush=True)
    for path, proof in zip(paths, proofs, strict=True):
        print("\n".join(_lines(path, proof)), flush=True)


def certify_picture(loaded: LoadedIntegerNetwork, image: NDArray[np.uint8]) -> PictureProof:
    """Classify a picture exactly and prove how far it can be changed.

    Args:
        loaded: from `load_integer_network(folder)`.
        image: uint8 (H, W, C) of the network's shape.

    Raises:
        UserError: the picture has another shape or type.
    """
    shape = loaded.network.image_shape
    if image.dtype != np.uint8 or image.shape != shape:
        raise UserError(
            f"this picture is {image.dtype} of shape {image.shape}; the network takes uint8 of "
            f"(H, W, C) = {shape}"
        )
    certifier = ExactCertifier(loaded.network, SETTINGS, Ball(Fraction(1), (Fraction(1),)))
    images = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].contiguous()
    # The label is the class that leads: of any other label the margin would not be positive.
    others = certifier.certify(images, torch.tensor([0]))
    found = certifier.certify(images, others.predicted)
    return PictureProof(
        int(found.predicted),
        loaded.classes[int(found.predicted)],
        found.radius[0],
        found.method[0],
        float(found.margin),
        image_digest(images[0].numpy()),
        loaded.weights_sha256,
    )


def read_picture(path: Path, loaded: LoadedIntegerNetwork) -> NDArray[np.uint8]:
    """A picture file as uint8 (H, W, C), its values as they are: nothing is scaled or converted.

    Raises:
        UserError: it is no picture, or not of the network's size and channels.
    """
    height, width, channels = loaded.network.image_shape
    wanted = f"{width} x {height} pixels in mode {MODES.get(channels)}"
    try:
        with Image.open(path) as picture:
            if picture.size != (width, height) or picture.mode != MODES.get(channels):
                raise UserError(
                    f"{path} has {picture.width} x {picture.height} pixels in mode {picture.mode}; "
                    f"this network of {loaded.dataset} takes {wanted} (8 bits a channel): convert "
                    "it first, as the proof is about the very values that the network sees"
                )
            return np.array(picture).reshape(height, width, channels)
    except UnidentifiedImageError:
        raise UserError(f"{path} is no picture that can be read; give a PNG or JPEG") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None


def _only_network(runs_dir: Path) -> Path:
    usual = runs_dir.glob(f"*/certify/{INTEGER_DESCRIPTION_NAME}")
    every = runs_dir.glob(f"*/[!.]*/{INTEGER_DESCRIPTION_NAME}")
    found = sorted(path.parent for path in usual) or sorted(path.parent for path in every)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(
            f"there is no exact network under {runs_dir}; run a pipeline's certify stage first, or "
            "name its folder with --network"
        )
    raise UserError(
        f"several networks are there ({', '.join(map(str, found))}); choose one with --network"
    )


def _lines(path: Path, proof: PictureProof) -> list[str]:
    if proof.radius == 0:
        answer = "nothing proved: two classes are equally near, or rounding decides"
    else:
        levels = largest_float_up_to(proof.radius * 255)
        answer = (
            f"proved below radius {proof.radius} of a pixel in [0, 1] "
            f"(about {largest_float_up_to(proof.radius):.4f}, {levels:.2f} of 255 grey levels)"
        )
    return [
        f"{path}: {proof.class_name} (class {proof.predicted})",
        f"  {answer}",
        f"  by {proof.method}, margin {proof.margin:.6g}",
        f"  pixels  sha256 {proof.image_sha256}",
        f"  network sha256 {proof.network_sha256}",
    ]
