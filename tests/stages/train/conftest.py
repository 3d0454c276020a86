"""Tiny shards and settings: 6 x 6 images of three classes that a small network can learn."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.execution.context import Context
from stages.data.manifest import Manifest, Split, image_key, write_manifest
from stages.data.shards import Sample, write_block_shard
from stages.train.config import Settings
from stages.train.run import run

IMAGE_SHAPE = (6, 6, 1)
NUM_IMAGES = {"train": 200, "validation": 50, "test": 20}

TINY: dict[str, Any] = {
    "inputs": {"data": "shard"},
    "network": {"kind": "distance_mlp", "width": 16, "depth": 3},
    "loss": {"kind": "hinge"},
    "eps": "1/100",
    "eps_train": "1/50",
    "rule": {"kind": "rising_p", "rise_epoch": 1, "infinite_epoch": 2},
    "schedule": {"epochs": 3},
    "augment": {"crop_padding": 1, "flip": True},
    "optimiser": {"decay": 0.005},
    "batch_size": 40,
    "validation": {"means_images": 100},
}


RUN_STAGE = """
import sys
from pathlib import Path
from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from pipeline.execution.signals import RankStop
from stages.train.config import Settings
from stages.train.run import run

data_dir, folder, settings = sys.argv[1:]
stop = RankStop()
stop.listen()
context = Context(
    "tiny", "train", Path(folder), {"data": Path(data_dir)}, Ranks.from_environment(), stop=stop
)
run(context, Settings.model_validate_json(settings))
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads gain so small a network nothing, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    os.environ.pop("LOCAL_RANK", None)  # DeepSpeed wants it; another test's command would read it


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shard"))


def write_shards(folder: Path) -> Path:
    random = np.random.default_rng(0)
    splits = {name: make_split(folder, name, random) for name in NUM_IMAGES}
    manifest = Manifest(
        dataset="fashion_mnist",
        classes=("dark", "bright", "striped"),
        image_shape=IMAGE_SHAPE,
        mean=(0.5,),
        std=0.25,
        seed=0,
        images_per_block=64,
        sources=(),
        splits=splits,
    )
    write_manifest(folder, manifest)
    return folder


def make_split(folder: Path, name: str, random: np.random.Generator) -> Split:
    num = NUM_IMAGES[name]
    labels = random.integers(0, 3, num)
    patterns = np.stack([np.full((6, 6), 60), np.full((6, 6), 190), np.full((6, 6), 60)])
    patterns[2, :, ::3] = 200
    noise = random.integers(-60, 61, (num, 6, 6))
    images = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)[..., None]
    sample = Sample(image_key(name, 0), images, labels)
    shard = write_block_shard(folder / f"{name}-000000.tar", [sample])
    return Split(num_images=num, shards=(shard,))


@pytest.fixture(scope="session")
def tiny() -> Callable[..., Settings]:
    return tiny_settings


def tiny_settings(**changes: Any) -> Settings:
    """`tiny(loss={"kind": "hinge"}, seed=1)`: the tiny settings, some of them replaced.

    A group given as a dict without `kind` is merged into the one it replaces.
    """
    merged = dict(TINY)
    for name, value in changes.items():
        is_part = isinstance(value, dict) and "kind" not in value
        merged[name] = merged.get(name, {}) | value if is_part else value
    return Settings.model_validate(merged)


@pytest.fixture
def train(data_dir: Path) -> Callable[[Path, Settings], Path]:
    """`train(folder, settings)` runs the stage in this process; returns the folder."""

    def run_stage(folder: Path, settings: Settings) -> Path:
        folder.mkdir(exist_ok=True)
        run(Context("tiny", "train", folder, {"data": data_dir}), settings)
        return folder

    return run_stage


@pytest.fixture
def start_train(
    data_dir: Path, start_rank: Callable[..., "subprocess.Popen[str]"]
) -> Callable[..., "subprocess.Popen[str]"]:
    """`start_train(folder, settings, rank=0, world_size=1, port=0)` runs it in another process."""

    def start(
        folder: Path, settings: Settings, rank: int = 0, world_size: int = 1, port: int = 0
    ) -> "subprocess.Popen[str]":
        folder.mkdir(exist_ok=True)
        arguments = [data_dir, folder, settings.model_dump_json()]
        return start_rank(RUN_STAGE, arguments, rank, world_size, port)

    return start


@pytest.fixture
def start_ranks(start_train: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., Any]:
    """`start_ranks(folder, settings, num_ranks)` runs the stage in so many processes."""

    def start(folder: Path, settings: Settings, num_ranks: int) -> "list[subprocess.Popen[str]]":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return [start_train(folder, settings, rank, num_ranks, port) for rank in range(num_ranks)]

    return start
