import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings
from stages.models.linf.network import build_network
from stages.models.network_description import WEIGHTS_NAME, read_description, read_tensor_shapes
from stages.models.network_file import save_network

SETTINGS = DistanceMLPSettings(kind="distance_mlp", width=5, depth=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_network(
        tmp_path,
        build_network(SETTINGS, (3, 2, 1), 2),
        SETTINGS,
        dataset="mnist",
        image_shape=(3, 2, 1),
        classes=("zero", "one"),
        normalisation=Normalisation((0.25,), 0.5),
    )
    return tmp_path


def test_the_description_says_what_was_saved(folder: Path) -> None:
    description = read_description(folder)
    assert description.network == SETTINGS
    assert (description.dataset, description.classes) == ("mnist", ("zero", "one"))
    assert (description.mean, description.std) == ((0.25,), 0.5)


def test_shapes_are_those_of_the_network(folder: Path) -> None:
    state = build_network(SETTINGS, (3, 2, 1), 2).state_dict()
    shapes = read_tensor_shapes(folder)
    assert {name: torch.Size(shape) for name, shape in shapes.items()} == {
        name: tensor.shape for name, tensor in state.items()
    }


def test_a_damaged_weights_file_is_named(folder: Path) -> None:
    (folder / WEIGHTS_NAME).write_bytes(b"no tensors")
    with pytest.raises(StageError, match=r"network\.safetensors"):
        read_tensor_shapes(folder)


def test_no_torch_is_needed_to_describe_a_network() -> None:
    program = "import sys, stages.models.network_description; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
