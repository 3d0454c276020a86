"""A small trained world: 6 x 6 images of three classes, and a network that knows them."""

import math
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from stages.data.history import HistoryLine, append_history
from stages.data.manifest import Manifest, Split, image_key, write_manifest
from stages.data.shards import Sample, write_block_shard
from stages.models.config import AnyNetworkSettings
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, LinfSettings
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.linf.pruning import EdgePruner
from stages.models.network_file import save_network
from stages.prune.config import Settings
from stages.prune.run import run

SHAPE = (6, 6, 1)
CLASSES = ("dark", "bright", "striped")
NUM_IMAGES = {"train": 300, "validation": 90, "test": 30}
NORMALISATION = Normalisation((0.5,), 0.25)
MLP = DistanceMLPSettings(kind="distance_mlp", width=40, depth=3)

RUN_STAGE = """
import sys
from pathlib import Path
from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from stages.prune.config import Settings
from stages.prune.run import run

data, network, folder, settings = sys.argv[1:]
inputs = {"data": Path(data), "network": Path(network)}
context = Context("tiny", "prune", Path(folder), inputs, Ranks.from_environment())
run(context, Settings.model_validate_json(settings))
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads gain so small a network nothing, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("shard"))


def write_data(folder: Path, **changes: Any) -> Path:
    random = np.random.default_rng(0)
    splits = {}
    for name, num in NUM_IMAGES.items():
        images, labels = draw_images(num, random)
        sample = Sample(image_key(name, 0), images, labels)
        shard = write_block_shard(folder / f"{name}-000000.tar", [sample])
        splits[name] = Split(num_images=num, shards=(shard,))
    fields: dict[str, Any] = {
        "dataset": "patterns",
        "classes": CLASSES,
        "image_shape": SHAPE,
        "mean": NORMALISATION.mean,
        "std": NORMALISATION.std,
        "seed": 0,
        "images_per_block": 64,
        "sources": (),
        "splits": splits,
    }
    write_manifest(folder, Manifest(**(fields | changes)))
    return folder


def prototypes() -> np.ndarray:
    """(3, 6, 6) grey levels."""
    patterns = np.stack([np.full((6, 6), 60), np.full((6, 6), 190), np.full((6, 6), 60)])
    patterns[2, :, ::3] = 200
    return patterns


def draw_images(num: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(0, 3, num)
    noise = random.integers(-80, 81, (num, 6, 6))
    return np.clip(prototypes()[labels] + noise, 0, 255).astype(np.uint8)[..., None], labels


@pytest.fixture
def network() -> LinfNetwork:
    """Two hidden layers that nearly pass the image on, then the distance to each prototype."""
    torch.manual_seed(0)
    network = build_network(MLP, SHAPE, len(CLASSES))
    repeated = torch.arange(MLP.width) % 36
    pixels = torch.from_numpy(prototypes() / 255).float().flatten(1)[:, repeated]
    weights = (pixels - NORMALISATION.mean[0]) / NORMALISATION.std
    with torch.no_grad():
        network.hidden[0].centering.running_mean.copy_(10 + weights.mean(0))
        network.hidden[1].centering.running_mean.fill_(10)
        network.head.distance.weight.copy_(weights - weights.mean(0))
    return network.eval()


def write_network(
    folder: Path,
    network: LinfNetwork,
    settings: AnyNetworkSettings = MLP,
    last_p: float = math.inf,
) -> Path:
    folder.mkdir(exist_ok=True)
    save_network(
        folder,
        network,
        settings,
        dataset="patterns",
        image_shape=SHAPE,
        classes=CLASSES,
        normalisation=NORMALISATION,
    )
    for step, p in enumerate((8.0, last_p)):
        append_history(folder, history_line(step, p))
    return folder


def history_line(step: int, p: float) -> HistoryLine:
    return HistoryLine(
        step=step,
        epoch=step,
        progress=step,
        eps_train=0.1,
        learning_rate=0.01,
        extra={"p": p},
        train_loss=0.5,
        train_accuracy=0.9,
        eps="1/10",
        num_validation_images=90,
        validation_clean_accuracy=0.9,
        validation_certified_accuracy=0.8,
        data_wait_share=0.0,
        images_per_s=1000,
        seconds=1,
    )


@pytest.fixture
def network_dir(tmp_path: Path, network: LinfNetwork) -> Path:
    return write_network(tmp_path / "train", network)


def pruner_of(
    network: LinfNetwork, settings: LinfSettings = MLP, last_p: float = math.inf
) -> EdgePruner:
    return EdgePruner(network, settings, lambda: [history_line(1, last_p)])


def settings_for(**changes: Any) -> Settings:
    fields = {
        "inputs": {"data": "shard", "network": "train"},
        "eps": "1/5",
        "tolerance": 0.03,
        "curve_points": 3,
        "refinements": 2,
        "batch_size": 64,
    }
    return Settings.model_validate(fields | changes)


@pytest.fixture
def prune_stage(data_dir: Path, network_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """`prune_stage(sparsity=0.9)` runs the stage in this process; returns its folder."""

    def run_stage(
        data: Path = data_dir, network: Path = network_dir, name: str = "prune", **changes: Any
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        inputs = {"data": data, "network": network}
        run(Context("tiny", "prune", folder, inputs, Ranks()), settings_for(**changes))
        return folder

    return run_stage


@pytest.fixture
def start_prune(
    data_dir: Path, network_dir: Path, start_rank: Callable[..., "subprocess.Popen[str]"]
) -> Callable[..., "subprocess.Popen[str]"]:
    """`start_prune(folder, rank, world_size, port)` runs the stage in another process."""

    def start(folder: Path, rank: int, world_size: int, port: int) -> "subprocess.Popen[str]":
        folder.mkdir(exist_ok=True)
        arguments = [data_dir, network_dir, folder, settings_for().model_dump_json()]
        return start_rank(RUN_STAGE, arguments, rank, world_size, port)

    return start


@pytest.fixture
def tools() -> "type[Tools]":
    """The functions of this file for tests, which import nothing from one another."""
    return Tools


class Tools:
    write_data = staticmethod(write_data)
    write_network = staticmethod(write_network)
    settings_for = staticmethod(settings_for)
    pruner_of = staticmethod(pruner_of)
    normalisation = NORMALISATION
    shape = SHAPE
    num_images = NUM_IMAGES
