"""What lies beside a network's weights, readable without torch: what it is and what it expects.

`network.json` says what rebuilds the network and which images it was made for; the head of
`network.safetensors` lists its tensors. `network_file` reads and writes the two files whole.
"""

from pathlib import Path

import safetensors
from pydantic import ValidationError
from safetensors import SafetensorError

from pipeline.errors import StageError
from pipeline.spec.settings import Settings
from stages.models.config import AnyNetworkSettings

WEIGHTS_NAME = "network.safetensors"
DESCRIPTION_NAME = "network.json"


class NetworkDescription(Settings):
    """Contents of network.json."""

    format_version: int = 1
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
    path = folder / DESCRIPTION_NAME
    try:
        return NetworkDescription.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StageError(f"no network here: {path} is missing; run the train stage first") from None
    except ValidationError as error:
        raise StageError(f"{path} is damaged: {error}; train again or restore it") from None


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
