import json
import math

import pytest
import torch

from pipeline.errors import StageError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.network import build_network
from stages.models.network_file import load_network, save_network

MLP = DistanceMLPSettings(kind="distance_mlp", width=8, depth=3)
HYBRID = HybridSettings(kind="hybrid", width=8, depth=2, hidden=6)
NORMALISATION = Normalisation((0.2860,), 0.3520)


def save(folder, settings):
    network = build_network(settings, (4, 4, 1), 3)
    images = torch.randn(16, 1, 4, 4)
    network(images, 8.0)
    network.eval()
    save_network(
        folder,
        network,
        settings,
        dataset="fashion_mnist",
        image_shape=(4, 4, 1),
        classes=("a", "b", "c"),
        normalisation=NORMALISATION,
    )
    return network(images, math.inf), images


@pytest.mark.parametrize("settings", [MLP, HYBRID], ids=["distance_mlp", "hybrid"])
def test_a_network_comes_back_as_it_was_written(tmp_path, settings) -> None:
    logits, images = save(tmp_path, settings)
    loaded = load_network(tmp_path)
    assert not loaded.network.training
    assert torch.equal(loaded.network(images, math.inf), logits)
    assert loaded.settings == settings
    assert (loaded.dataset, loaded.image_shape) == ("fashion_mnist", (4, 4, 1))
    assert loaded.classes == ("a", "b", "c")
    assert loaded.normalisation == NORMALISATION


def test_equal_networks_give_equal_bytes(tmp_path) -> None:
    contents = []
    for name in ("one", "two"):
        torch.manual_seed(0)
        (tmp_path / name).mkdir()
        save(tmp_path / name, MLP)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("position", [8, 200, -1])
def test_a_flipped_byte_is_reported(tmp_path, position) -> None:
    save(tmp_path, MLP)
    path = tmp_path / "network.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"network.safetensors is damaged: its sha256"):
        load_network(tmp_path)


def test_a_cut_file_is_reported(tmp_path) -> None:
    save(tmp_path, MLP)
    path = tmp_path / "network.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StageError, match=r"is damaged"):
        load_network(tmp_path)


def test_a_description_of_another_network_is_reported(tmp_path) -> None:
    save(tmp_path, MLP)
    path = tmp_path / "network.json"
    description = json.loads(path.read_text())
    description["network"]["width"] = 9
    path.write_text(json.dumps(description))
    with pytest.raises(StageError, match=r"does not fit network.json"):
        load_network(tmp_path)


@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_a_missing_file_is_named(tmp_path, name) -> None:
    save(tmp_path, MLP)
    (tmp_path / name).unlink()
    with pytest.raises(StageError, match=rf"{name}(: cannot be read| is missing)"):
        load_network(tmp_path)


def test_a_damaged_description_is_reported(tmp_path) -> None:
    save(tmp_path, MLP)
    (tmp_path / "network.json").write_text('{"network": ')
    with pytest.raises(StageError, match=r"network.json: damaged"):
        load_network(tmp_path)


def test_a_network_of_an_older_format_is_refused_in_one_line(tmp_path) -> None:
    save(tmp_path, MLP)
    path = tmp_path / "network.json"
    description = json.loads(path.read_text())
    assert description["format_version"] > 1
    path.write_text(json.dumps(description | {"format_version": 1}))
    with pytest.raises(StageError, match=r"format_version") as refusal:
        load_network(tmp_path)
    assert "\n" not in str(refusal.value)
    assert "train" in str(refusal.value)
