"""Every full-size config trains, on a few images in the true format of its data set."""

import math
from pathlib import Path

import pytest
import torch

from pipeline.execution.context import Context
from pipeline.spec.load import load_spec
from stages.data.catalogue import CATALOGUE
from stages.data.history import read_history
from stages.models.network_file import load_network
from stages.shard.run import shard_dataset
from stages.train.run import run
from tests.end_to_end.true_formats import without_published_figures, write_source

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if path.stem != "quickstart")
SMALL = {
    "stages.shard.validation_images": "10",
    "stages.train.network.width": "12",
    "stages.train.batch_size": "8",
    "stages.train.schedule": "{epochs: 3}",
    "stages.train.rule": "{kind: rising_p, rise_epoch: 1, infinite_epoch: 2}",
    "stages.train.validation": "{every_epochs: 2}",
}
HYBRID = {"stages.train.network.hidden": "6", "stages.train.radius.epochs": "1"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")  # DeepSpeed sets it; this takes it away again
    torch.set_num_threads(1)


@pytest.mark.parametrize("loader", ["resident", "streaming"])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_full_size_config_trains_on_the_true_format(
    config: Path, loader: str, tmp_path: Path
) -> None:
    changes = {**SMALL, "stages.train.loader": loader}
    if "kind: hybrid" in config.read_text():
        changes |= HYBRID
    spec = load_spec(config, [f"{name}={value}" for name, value in changes.items()], "stages")
    shard, train = (spec.stage(name).settings for name in ("shard", "train"))
    source = tmp_path / "source"
    write_source(shard.dataset, source)
    free = without_published_figures(CATALOGUE[shard.dataset])
    folders = {name: tmp_path / name for name in ("shard", "train")}
    for folder in folders.values():
        folder.mkdir()
    where = shard.model_copy(update={"source": source})
    shard_dataset(Context(spec.name, "shard", folders["shard"], {}), where, free)
    run(Context(spec.name, "train", folders["train"], {"data": folders["shard"]}), train)

    line = read_history(folders["train"])[-1]
    # 50 images in batches of at most 8, three epochs
    assert (line.step, line.extra["p"]) == (21, math.inf)
    assert math.isfinite(line.train_loss)
    assert load_network(folders["train"]).settings == train.network
