"""A small world to certify: images near three prototypes, and a network that knows them."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from pipeline.store.artifacts import (
    InputRecord,
    StageRecord,
    output_names,
    partial_dir,
    publish,
    seal,
)
from pipeline.store.digests import artifact_digest, file_digests, recorded_settings
from pipeline.store.provenance import this_machine
from stages.certify.config import Settings
from stages.certify.run import run
from stages.data.manifest import Manifest, Split, write_manifest
from stages.data.shards import Sample, write_block_shard
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.network import build_network
from stages.models.network_file import LoadedNetwork, save_network

NORMALISATION = Normalisation((0.3,), 0.35)
SHAPE = (4, 4, 1)
CLASSES = ("left", "right", "ring")
NUM_IMAGES = 40


@dataclass(frozen=True)
class World:
    """Artifacts on disk, and what they hold."""

    data_dir: Path
    network_dir: Path
    images: torch.Tensor
    """uint8 (N, 1, 4, 4)"""
    labels: torch.Tensor

    def certify(self, settings):
        """The committed folder of a certify stage, beside the artifacts that it read."""
        artifact_dir = self.data_dir.parent / "certify"
        working_dir = partial_dir(artifact_dir)
        working_dir.mkdir()
        run(self.context(working_dir), settings)
        outputs = file_digests(working_dir, output_names(working_dir))
        seal(artifact_dir, stage_record(settings, outputs))
        publish(artifact_dir)
        return artifact_dir

    def context(self, output_dir, ranks=None):
        output_dir.mkdir(exist_ok=True)
        inputs = {"data": self.data_dir, "network": self.network_dir}
        return Context("test", "certify", output_dir, inputs, ranks or Ranks())


def stage_record(settings, outputs):
    now = datetime(2026, 11, 21, tzinfo=UTC)
    return StageRecord(
        pipeline="test",
        stage="certify",
        kind="certify",
        settings=recorded_settings(settings),
        inputs={
            name: InputRecord(stage=stage, digest="5" * 64)
            for name, stage in settings.inputs.model_dump().items()
        },
        code={},
        work_digest="c" * 64,
        digest=artifact_digest(outputs),
        outputs=outputs,
        git_commit=None,
        git_has_changes=False,
        packages={},
        machine=this_machine(),
        num_ranks=1,
        seed=settings.seed,
        start=now,
        end=now,
        seconds=1.0,
        num_attempts=1,
        exit=0,
    )


def settings_for(**changes):
    fields = {
        "inputs": {"data": "shard", "network": "train"},
        "eps": "1/10",
        "batch_size": 16,
        "attack": {"steps": 5, "restarts": 1, "surrogates": [8, "inf"], "square_queries": 10},
    }
    return Settings.model_validate(fields | changes)


def prototypes():
    """(3, 1, 4, 4) grey levels: near one another, some beyond black and white."""
    base = torch.randint(-60, 316, (1, 1, 4, 4), generator=generator(5))
    own = torch.randint(-60, 61, (3, 1, 4, 4), generator=generator(6))
    return (base + own).float()


def prototype_weights():
    """(3, 16): the prototypes in input units."""
    return ((prototypes() / 255 - NORMALISATION.mean[0]) / NORMALISATION.std).flatten(1)


def images_near_prototypes(num_images, seed):
    labels = torch.randint(0, 3, (num_images,), generator=generator(seed))
    noise = torch.randint(-80, 81, (num_images, 1, 4, 4), generator=generator(seed + 1))
    strength = torch.rand(num_images, 1, 1, 1, generator=generator(seed + 2))
    images = (prototypes()[labels] + noise * strength).round().clamp(0, 255)
    return images.to(torch.uint8), labels


def distance_network(seed=0):
    """Two hidden layers that nearly pass the image on, then the distance to each prototype."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(
            DistanceMLPSettings(kind="distance_mlp", width=20, depth=3), SHAPE, 3
        )
    repeated = torch.arange(20) % 16
    with torch.no_grad():
        for layer in network.hidden:
            layer.centering.running_mean.fill_(10)
        network.head.distance.weight.copy_(prototype_weights()[:, repeated])
        network.head.bias.normal_(0, 0.01, generator=generator(seed))
    return network.eval()


def hybrid_network(seed=0):
    """The distances to the prototypes as features; the head prefers the nearest."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(HybridSettings(kind="hybrid", width=3, depth=1, hidden=6), SHAPE, 3)
    with torch.no_grad():
        network.hidden[0].distance.weight.copy_(prototype_weights())
        network.hidden[0].centering.running_mean.fill_(2)
        network.head.first.weight.copy_(torch.eye(3).repeat(2, 1) * 0.4)
        network.head.first.bias.zero_()
        network.head.second.weight.copy_(-torch.eye(3).repeat(1, 2))
        network.head.second.bias.zero_()
    return network.eval()


def write_world(root, network, network_settings, num_images=NUM_IMAGES, seed=11):
    data_dir, network_dir = root / "shard", root / "train"
    data_dir.mkdir(parents=True)
    network_dir.mkdir()
    images, labels = images_near_prototypes(num_images, seed)
    pixels, targets = images.permute(0, 2, 3, 1).contiguous().numpy(), labels.numpy()
    shards = []
    for number, rows in enumerate(np.array_split(np.arange(num_images), 2)):
        sample = Sample(f"test-{rows[0]:06d}", pixels[rows], targets[rows])
        shards.append(write_block_shard(data_dir / f"test-{number:06d}.tar", [sample]))
    write_manifest(data_dir, manifest_of(num_images, tuple(shards)))
    save_network(
        network_dir,
        network,
        network_settings,
        dataset="prototypes",
        image_shape=SHAPE,
        classes=CLASSES,
        normalisation=NORMALISATION,
    )
    return World(data_dir, network_dir, images, labels)


def manifest_of(num_images, shards, **changes):
    fields = {
        "dataset": "prototypes",
        "classes": CLASSES,
        "image_shape": SHAPE,
        "mean": NORMALISATION.mean,
        "std": NORMALISATION.std,
        "seed": 0,
        "images_per_block": 256,
        "sources": (),
        "splits": {"test": Split(num_images=num_images, shards=shards)},
    }
    return Manifest(**(fields | changes))


def loaded_network(kind):
    """As `load_network` gives it."""
    if kind == "distance":
        settings = DistanceMLPSettings(kind="distance_mlp", width=20, depth=3)
        network = distance_network()
    else:
        settings = HybridSettings(kind="hybrid", width=3, depth=1, hidden=6)
        network = hybrid_network()
    return LoadedNetwork(network, settings, "prototypes", SHAPE, CLASSES, NORMALISATION, "0" * 64)


def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def world(tmp_path):
    settings = DistanceMLPSettings(kind="distance_mlp", width=20, depth=3)
    return write_world(tmp_path / "world", distance_network(), settings)


@pytest.fixture
def hybrid_world(tmp_path):
    settings = HybridSettings(kind="hybrid", width=3, depth=1, hidden=6)
    return write_world(tmp_path / "world", hybrid_network(), settings)


@pytest.fixture(params=["world", "hybrid_world"])
def any_world(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def tools():
    """The functions of this file for tests, which import nothing from one another."""
    return Tools


class Tools:
    settings_for = staticmethod(settings_for)
    stage_record = staticmethod(stage_record)
    distance_network = staticmethod(distance_network)
    hybrid_network = staticmethod(hybrid_network)
    loaded_network = staticmethod(loaded_network)
    manifest_of = staticmethod(manifest_of)
    images_near_prototypes = staticmethod(images_near_prototypes)
    normalisation = NORMALISATION
    infinity = math.inf
