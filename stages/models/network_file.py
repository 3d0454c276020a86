"""The file pair that hands a trained network from stage to stage.

`network.safetensors` holds the weights and running means; `network.json` what rebuilds the network
around them and what images it expects. No pickle, so a foreign network is safe to read.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from pipeline.errors import StageError, UserError
from pipeline.files import write_atomic
from stages.models.config import AnyNetworkSettings
from stages.models.family import family_of
from stages.models.images import Normalisation
from stages.models.network_description import (
    DESCRIPTION_NAME,
    WEIGHTS_NAME,
    NetworkDescription,
    read_description,
)


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in evaluation mode and all that is known about it."""

    network: Any
    settings: AnyNetworkSettings
    dataset: str
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    classes: tuple[str, ...]
    normalisation: Normalisation
    weights_sha256: str
    """Of network.safetensors."""


def save_network(
    folder: Path,
    network: nn.Module,
    settings: AnyNetworkSettings,
    *,
    dataset: str,
    image_shape: tuple[int, int, int],
    classes: tuple[str, ...],
    normalisation: Normalisation,
) -> None:
    """Write network.safetensors and network.json into `folder`.

    Args:
        folder: an existing folder.
        network: as it is certified, after `Family.finalise`.
        settings: what `network` was built from.
        dataset: name in the catalogue.
        image_shape: (H, W, C).
        classes: class names in label order.
        normalisation: what `network` expects of its images.
    """
    tensors = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    weights = safetensors.torch.save(tensors)
    description = NetworkDescription(
        network=settings,
        dataset=dataset,
        image_shape=image_shape,
        classes=classes,
        mean=normalisation.mean,
        std=normalisation.std,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    write_atomic(folder / WEIGHTS_NAME, weights)
    write_atomic(folder / DESCRIPTION_NAME, description.model_dump_json(indent=2) + "\n")


def load_network(folder: Path, device: torch.device | str = "cpu") -> LoadedNetwork:
    """Read what `save_network` wrote.

    Returns:
        The network on `device`, in evaluation mode.

    Raises:
        StageError: a file is missing, damaged, or does not belong to the other.
    """
    description = read_description(folder)
    weights = read_weights(folder / WEIGHTS_NAME, description.weights_sha256)
    num_classes = len(description.classes)
    family = family_of(description.network)
    try:
        network = family.build(description.network, description.image_shape, num_classes)
    except UserError as error:
        raise StageError(f"{folder / DESCRIPTION_NAME} is damaged: {error}; train again") from None
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise StageError(
            f"{folder / WEIGHTS_NAME} does not fit {DESCRIPTION_NAME} beside it: {error}; "
            "train again, or restore both files of one run"
        ) from None
    return LoadedNetwork(
        network.to(device).eval(),
        description.network,
        description.dataset,
        description.image_shape,
        description.classes,
        Normalisation(description.mean, description.std),
        description.weights_sha256,
    )


def read_weights(path: Path, expected_sha256: str) -> dict[str, torch.Tensor]:
    """Read a safetensors file whose sha256 is known.

    Raises:
        StageError: it is missing, damaged, or none.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise StageError(f"{path} is missing; restore it or train again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected_sha256:
        raise StageError(
            f"{path} is damaged: its sha256 is {found}, its .json says {expected_sha256}; "
            "restore it or train again"
        )
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise StageError(f"{path} is no safetensors file: {error}; train again") from None
