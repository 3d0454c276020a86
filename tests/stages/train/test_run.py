import math
import signal
import socket
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError, StoppedOnRequest
from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from stages.data.batches import in_order
from stages.data.history import read_history
from stages.data.in_memory import load_split
from stages.data.manifest import read_manifest
from stages.models.family import family_of
from stages.models.network_file import load_network
from stages.models.validation import evaluate
from stages.train.checkpoint import load_newest, newest_step
from stages.train.data import open_data, shards_in_order
from stages.train.run import run

HYBRID = {
    "network": {"kind": "hybrid", "width": 16, "depth": 2, "hidden": 8},
    "loss": {"kind": "ibp"},
    "radius": {"kind": "linear", "epochs": 1},
}
MIXTURE = {"loss": {"kind": "mixture", "cross_entropy_start": 1, "cross_entropy_end": 0.1}}
# Checkpoints and validations at different steps, so that a resume falls between validations.
OFTEN = {
    "schedule": {"epochs": 20},
    "rule": {"rise_epoch": 1, "infinite_epoch": 15},
    "checkpoint": {"every_epochs": 0.4},
}


def network_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("network.*")}


def untimed(folder: Path) -> list[dict[str, object]]:
    lines = (line.model_dump() for line in read_history(folder))
    times = {"data_wait_share": 0, "images_per_s": 0, "seconds": 0}
    return [line | times for line in lines]


@pytest.mark.parametrize("changes", [{}, MIXTURE, HYBRID], ids=["hinge", "mixture", "hybrid ibp"])
def test_a_network_learns_and_is_handed_on_as_it_was_judged(
    tmp_path, tiny, train, data_dir, changes
) -> None:
    settings = tiny(**changes, schedule={"epochs": 8}, rule={"rise_epoch": 2, "infinite_epoch": 6})
    folder = train(tmp_path / "run", settings)
    loaded = load_network(folder)
    last = read_history(folder)[-1]
    assert loaded.settings == settings.network
    assert last.extra["p"] == math.inf
    assert last.progress == 1.0
    assert last.validation_clean_accuracy > 0.5  # one in three by chance

    validation = load_split(data_dir, read_manifest(data_dir), "validation")
    source = partial(in_order, validation, 16)
    family = family_of(loaded.settings)
    counts = evaluate(family, loaded.network, loaded.normalisation, source, Fraction(1, 100))
    assert counts.clean_accuracy == last.validation_clean_accuracy
    assert counts.certified_accuracy == last.validation_certified_accuracy


def test_the_handed_on_running_means_are_those_of_all_training_images(
    tmp_path, tiny, train, data_dir
) -> None:
    loaded = load_network(train(tmp_path / "run", tiny()))
    images = load_split(data_dir, read_manifest(data_dir), "train").images
    features = loaded.network.features(loaded.normalisation.apply(images), math.inf)
    assert features.mean(0).abs().max() < 1e-5


def test_two_runs_give_the_same_bytes(tmp_path, tiny, train) -> None:
    one, two = (train(tmp_path / name, tiny()) for name in ("one", "two"))
    assert network_bytes(one) == network_bytes(two)
    assert untimed(one) == untimed(two)


def test_validating_more_often_changes_nothing_but_the_history(tmp_path, tiny, train) -> None:
    often = train(tmp_path / "often", tiny(validation={"every_epochs": 1}))
    rare = train(tmp_path / "rare", tiny(validation={"every_epochs": 3}))
    assert network_bytes(often) == network_bytes(rare)
    assert [line.step for line in read_history(often)] == [5, 10, 15]
    assert [line.step for line in read_history(rare)] == [15]


def test_history_counts_every_image_since_the_validation_before(tmp_path, tiny, train) -> None:
    every_epoch = train(tmp_path / "one", tiny(validation={"every_epochs": 1}))
    once = train(tmp_path / "two", tiny(validation={"every_epochs": 3}))
    lines, (whole,) = read_history(every_epoch), read_history(once)
    losses = [line.train_loss for line in lines]
    assert whole.train_loss == pytest.approx(sum(losses) / 3)
    accuracies = [line.train_accuracy for line in lines]
    assert whole.train_accuracy == pytest.approx(sum(accuracies) / 3)


def killed_run(folder: Path, settings, start_train) -> int:
    """Kill -9 a run of 100 steps in its midst; returns the step of its newest checkpoint."""
    process = start_train(folder, settings)
    while (newest_step(folder) or 0) < 6 and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    _, errors = process.communicate()
    newest = newest_step(folder)
    assert newest in range(6, 100), errors
    return newest


def test_a_run_killed_anywhere_ends_with_the_same_bytes(tmp_path, tiny, train, start_train) -> None:
    settings = tiny(**MIXTURE, **OFTEN)
    whole = train(tmp_path / "whole", settings)
    killed_run(tmp_path / "killed", settings, start_train)
    killed = train(tmp_path / "killed", settings)
    assert network_bytes(killed) == network_bytes(whole)
    assert untimed(killed) == untimed(whole)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    tmp_path, tiny, train, start_train, capsys
) -> None:
    settings = tiny(**HYBRID, **OFTEN)
    whole = train(tmp_path / "whole", settings)
    newest = killed_run(tmp_path / "killed", settings, start_train)
    checkpoints = tmp_path / "killed" / "checkpoints"
    *_, before, _ = sorted(int(path.name[5:]) for path in checkpoints.glob("step-*"))
    damaged = checkpoints / f"step-{newest:08d}" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    killed = train(tmp_path / "killed", settings)
    said = capsys.readouterr().out
    assert f"step-{newest:08d} is damaged" in said
    assert f"going on from the checkpoint after step {before}" in said
    assert network_bytes(killed) == network_bytes(whole)


def test_a_finished_run_keeps_its_last_checkpoint_and_ends_the_same_again(
    tmp_path, tiny, train
) -> None:
    folder = train(tmp_path / "run", tiny())
    before, history = network_bytes(folder), untimed(folder)
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    best = (folder / "checkpoints" / "best").read_text().strip()
    assert names == {"latest", "best", "step-00000015", best}
    train(folder, tiny())
    assert network_bytes(folder) == before
    assert untimed(folder) == history


def test_two_ranks_train_the_network_of_one(tmp_path, tiny, train, start_train) -> None:
    settings = tiny(**MIXTURE, seed=2)
    port = free_port()
    ranks = [start_train(tmp_path / "two", settings, rank, 2, port) for rank in range(2)]
    one = train(tmp_path / "one", settings)
    for process in ranks:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    for alone, shared in zip(read_history(one), read_history(tmp_path / "two"), strict=True):
        assert shared.train_loss == pytest.approx(alone.train_loss, rel=1e-5)
        assert shared.train_accuracy == alone.train_accuracy
        assert shared.num_validation_images == alone.num_validation_images == 50
        assert shared.validation_clean_accuracy == alone.validation_clean_accuracy
    for name, alone in load_network(one).network.state_dict().items():
        shared = load_network(tmp_path / "two").network.state_dict()[name]
        assert (shared - alone).abs().max() <= 1e-4 * alone.abs().max(), name


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_loss_that_is_not_finite_names_step_and_last_checkpoint(tmp_path, tiny, train) -> None:
    settings = tiny(optimiser={"learning_rate": 3e38}, checkpoint={"every_epochs": 0.2})
    with pytest.raises(StageError, match=r"not finite after step \d+ \(p 8\)") as caught:
        train(tmp_path / "run", settings)
    last = newest_step(tmp_path / "run")
    expected = "no checkpoint yet" if last is None else f"last good checkpoint: after step {last}"
    assert expected in str(caught.value)
    found = load_newest(tmp_path / "run").checkpoint
    assert found is None or all(tensor.isfinite().all() for tensor in found.state.values())


@pytest.mark.parametrize("window", [1000, 64])
def test_streaming_trains_the_resident_network(tmp_path, tiny, train, window) -> None:
    folders = [
        train(tmp_path / loader, tiny(loader=loader, shuffle_window=window))
        for loader in ("resident", "streaming")
    ]
    assert network_bytes(folders[0]) == network_bytes(folders[1])
    assert untimed(folders[0]) == untimed(folders[1])


def test_a_last_batch_leaves_no_image_out(tmp_path, tiny, train) -> None:
    lines = read_history(train(tmp_path / "run", tiny(batch_size=41)))
    assert [line.step for line in lines] == [5, 10, 15]
    losses = read_history(train(tmp_path / "whole", tiny(batch_size=40)))
    assert [line.train_loss for line in lines] == [line.train_loss for line in losses]


def test_images_in_order_are_the_same_streamed_and_resident(data_dir, tiny) -> None:
    settings = tiny(validation={"means_images": 70, "batch_size": 30})
    streamed = tiny(validation={"means_images": 70, "batch_size": 30}, loader="streaming")
    views = [open_data(data_dir, one, Ranks(), torch.device("cpu")) for one in (settings, streamed)]
    for name, num in (("some_in_order", 70), ("all_in_order", 200), ("validation", 50)):
        batches = [list(getattr(view, name)()) for view in views]
        images = [torch.cat([batch.images for batch in part]) for part in batches]
        indices = [torch.cat([batch.indices for batch in part]) for part in batches]
        assert torch.equal(*images)
        assert torch.equal(*indices)
        assert len(images[0]) == num


def test_ranks_share_streamed_images_without_overlap(data_dir) -> None:
    manifest = read_manifest(data_dir)
    shares = [
        [
            int(index)
            for batch in shards_in_order(data_dir, manifest, "train", 170, 16, Ranks(rank, 2))
            for index in batch.indices
        ]
        for rank in range(2)
    ]
    assert sorted(shares[0] + shares[1]) == list(range(170))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_one_rank_stops_both_at_one_step(tmp_path, tiny, start_train, number) -> None:
    settings = tiny(**OFTEN)
    folder, port = tmp_path / "run", free_port()
    ranks = [start_train(folder, settings, rank, 2, port) for rank in range(2)]
    while (newest_step(folder) or 0) < 6:
        time.sleep(0.01)
        assert all(process.poll() is None for process in ranks)
    asked = time.monotonic()
    ranks[1].send_signal(number)
    errors = [process.communicate(timeout=60)[1] for process in ranks]
    assert time.monotonic() - asked < 30
    said = [text.rpartition("StoppedOnRequest: ")[2] for text in errors]
    assert said == [f"a checkpoint holds all {newest_step(folder)} steps done\n"] * 2
    latest = (folder / "checkpoints" / "latest").read_text()
    assert latest == f"step-{newest_step(folder):08d}\n"


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(tmp_path, tiny, train, data_dir):
    settings = tiny(**MIXTURE, **OFTEN)
    whole = train(tmp_path / "whole", settings)
    folder = tmp_path / "stopped"
    folder.mkdir()
    for stops in range(3):
        context = Context("tiny", "train", folder, {"data": data_dir})
        context.stop.signal_name = "SIGTERM"  # asked at once: stops after one step
        with pytest.raises(StoppedOnRequest, match=f"holds all {stops + 1} steps"):
            run(context, settings)
    train(folder, settings)
    assert network_bytes(folder) == network_bytes(whole)
    assert untimed(folder) == untimed(whole)
