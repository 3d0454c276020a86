"""What lies beside a network's weights, readable without torch: what it is and what it expects.

`network.json` says what rebuilds the network and which images it was made for; the head of
`network.safetensors` lists its tensors. `network_file` reads and writes the two files whole.
"""

from pathlib import Path
from typing import Literal

import safetensors
from safetensors import SafetensorError

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json
from stages.models.config import AnyNetworkSettings

WEIGHTS_NAME = "network.safetensors"
DESCRIPTION_NAME = "network.json"


class NetworkDescription(FrozenModel):
    """Contents of network.json."""

    format_version: Literal[2] = 2
    network: AnyNetworkSettings
    dataset: str
    """Name in the catalogue."""
    image_shape: tuple[int, int, int]
    """(H, W, C)."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: float
    weights_sha256: str


def read_description(folder: Path) -> NetworkDescription:
    """Read network.json of `folder`.

    Raises:
        StageError: the file is missing or damaged.
    """
    return read_json(folder / DESCRIPTION_NAME, NetworkDescription, "run the train stage")


def read_tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in network.safetensors, in alphabetical order.

    Raises:
        StageError: the file is missing or no safetensors file.
    """
    path = folder / WEIGHTS_NAME
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}
    except (OSError, SafetensorError) as error:
        raise StageError(f"{path}: cannot list the tensors: {error}; train again") from None
