"""A family, a loss and a kind of layer that the house does not know, each added in its place.

The stages are copied; a family is added by its folder alone, a loss and a kind of layer by theirs
and a line in a union.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SHARD = """
name: toy
stages:
  shard: {{dataset: folder, source: {source}, validation_images: 20}}
"""
SCHEDULE = "schedule: {epochs: 12}\n    validation: {every_epochs: 3}\n    batch_size: 20"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the stages beside small pictures; kernels and pipeline are used where they are."""
    shutil.copytree(ROOT / "stages", tmp_path / "house" / "stages")
    random = np.random.default_rng(0)
    for split, num_images in (("train", 40), ("test", 15)):
        for name, level in (("dark", 60), ("bright", 190)):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(num_images):
                pixels = np.clip(level + random.integers(-50, 51, (8, 8)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return tmp_path / "house"


def add_line(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path} has changed: add the line where it belongs now"
    path.write_text(text.replace(before, after))


def run(house: Path, spec: str) -> Path:
    """Run the pipeline by the copied stages; the folder of results."""
    config = house / "toy.yaml"
    config.write_text(SHARD.format(source=house.parent / "pictures") + spec)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", str(config), "--runs", str(house / "runs")],
        cwd=house,
        env={**os.environ, "PYTHONPATH": f"{house}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return house / "runs" / "toy"


def test_a_family_is_its_folder(house: Path) -> None:
    shutil.copytree(HERE / "nearest_mean", house / "stages" / "models" / "nearest_mean")
    runs = run(
        house,
        f"""
  train:
    inputs: {{data: shard}}
    norm: l2
    eps: 11/10
    eps_train: 3/2
    network: {{kind: nearest_mean}}
    rule: {{kind: plain, epochs: 12}}
    optimiser: {{learning_rate: 0.3}}
    loss: {{kind: hinge}}
    {SCHEDULE}
  certify:
    inputs: {{data: shard, network: train}}
    norm: l2
    eps: 11/10
    certifier: {{kind: distance_to_means}}
    attack: {{steps: 20, restarts: 2}}
  report:
    inputs: {{data: shard, records: [certify]}}
""",
    )
    summary = json.loads((runs / "certify" / "summary.json").read_text())
    assert (summary["norm"], summary["eps"], summary["num_images"]) == ("l2", "11/10", 30)
    assert summary["certified_method"] == "distance_to_means"
    certified, attacked = summary["num_certified"], summary["num_attacked_correct"]
    assert 0 < certified <= attacked <= summary["num_clean_correct"]
    with (runs / "certify" / "records.csv").open(newline="") as file:
        assert max(float(row["radius"]) for row in csv.DictReader(file)) > 1
    page = (runs / "report" / "index.html").read_text()
    assert "Euclidean length" in page
    assert "Falls from 1 to 0 in training." in page
    (network,) = json.loads((runs / "report" / "report.json").read_text())["networks"]
    assert network["kind"] == "nearest_mean"
    assert 0 <= network["history"][-1]["extra"]["heat"] < 0.1


def test_a_loss_and_a_kind_of_layer_are_a_file_and_a_line_each(house: Path) -> None:
    shutil.copytree(HERE / "squared_hinge", house / "stages" / "train" / "losses" / "squared_hinge")
    add_line(
        house / "stages" / "train" / "losses" / "config.py",
        "HingeSettings | MixtureSettings",
        "HingeSettings | SquaredHingeSettings | MixtureSettings",
    )
    add_line(
        house / "stages" / "train" / "losses" / "config.py",
        "from stages.train.losses.hinge.config import HingeSettings\n",
        "from stages.train.losses.hinge.config import HingeSettings\n"
        "from stages.train.losses.squared_hinge.config import SquaredHingeSettings\n",
    )
    shutil.copy(HERE / "mirrored.py", house / "stages" / "models" / "linf" / "layers")
    add_line(
        house / "stages" / "models" / "linf" / "config.py",
        'kind: Literal["dense"] = "dense"',
        'kind: Literal["dense", "mirrored"] = "dense"',
    )
    runs = run(
        house,
        f"""
  train:
    inputs: {{data: shard}}
    eps: 1/20
    eps_train: 1/10
    network:
      kind: layers
      hidden: [{{kind: dense, num_outputs: 24}}, {{kind: mirrored, num_outputs: 24}}]
      head: {{kind: distance, layer: {{kind: mirrored, num_outputs: 2}}}}
    rule: {{kind: rising_p, rise_epoch: 1, infinite_epoch: 8}}
    loss: {{kind: squared_hinge}}
    {SCHEDULE}
  certify:
    inputs: {{data: shard, network: train}}
    eps: 1/20
    attack: {{steps: 5, restarts: 1, square_queries: 5}}
  report:
    inputs: {{data: shard, records: [certify]}}
""",
    )
    layers = json.loads((runs / "certify" / "network.int.json").read_text())["layers"]
    assert [layer["kind"] for layer in layers] == ["dense", "mirrored", "mirrored"]
    history = (runs / "train" / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["extra"]["sharpness"] == 2
    summary = json.loads((runs / "certify" / "summary.json").read_text())
    assert summary["num_certified"] > 0
    audited = subprocess.run(
        [sys.executable, "-m", "pipeline", "audit", str(runs / "certify"), "--sample", "5"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": f"{house}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert audited.returncode == 0, audited.stdout + audited.stderr
