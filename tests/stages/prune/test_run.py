import json
import math
import socket
from functools import partial

import pytest
import torch
from pydantic import ValidationError

from pipeline.errors import StageError, UserError
from stages.data.batches import in_order
from stages.data.in_memory import load_split
from stages.data.manifest import read_manifest
from stages.models.family import family_of
from stages.models.linf.config import HybridSettings
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import build_network
from stages.models.network_file import load_network
from stages.models.pruning_file import read_pruning
from stages.models.validation import evaluate
from stages.prune.summary import use_histogram


def test_the_written_network_is_the_one_that_was_judged(prune_stage, data_dir) -> None:
    folder = prune_stage()
    pruning, loaded = read_pruning(folder), load_network(folder)
    assert loaded.settings.kind == "sparse_mlp"
    validation = load_split(data_dir, read_manifest(data_dir), "validation")
    source = partial(in_order, validation, 30)
    counts = evaluate(
        family_of(loaded.settings), loaded.network, loaded.normalisation, source, pruning.eps
    )
    assert counts.num_correct == pruning.after.num_correct
    assert counts.num_certified == pruning.after.num_certified
    assert counts.num_images == pruning.num_validation_images == 90
    assert pruning.num_edges == sum(loaded.settings.num_edges)
    assert pruning.num_training_images == 300
    assert pruning.sparsity == 1 - pruning.num_edges / pruning.num_edges_before


def test_auto_keeps_both_accuracies_within_the_tolerance(prune_stage) -> None:
    for tolerance in (0.0, 0.1):
        pruning = read_pruning(prune_stage(tolerance=tolerance))
        allowed = tolerance * pruning.num_validation_images
        assert pruning.before.num_certified > 45
        assert pruning.before.num_correct - pruning.after.num_correct <= allowed
        assert pruning.before.num_certified - pruning.after.num_certified <= allowed
    assert pruning.sparsity > 0.9


def test_more_tolerance_never_keeps_more_edges(prune_stage) -> None:
    sparsities = [read_pruning(prune_stage(tolerance=t)).sparsity for t in (0.0, 0.05, 0.5)]
    assert sparsities == sorted(sparsities)


def test_running_means_are_those_of_all_training_images(prune_stage, data_dir, tools) -> None:
    folder = prune_stage(sparsity=0.9)
    network = load_network(folder).network
    x = load_split(data_dir, read_manifest(data_dir), "train").images
    x = tools.normalisation.apply(x).flatten(1)
    for layer in network.hidden:
        distances = layer.distance(x, math.inf)
        mean = distances.double().mean(0).float()
        assert torch.allclose(layer.centering.running_mean, mean, atol=1e-6, rtol=0)
        x = layer.centering(distances)


def test_a_share_and_a_count_are_obeyed(prune_stage) -> None:
    by_share = read_pruning(prune_stage(sparsity=0.9))
    assert 0.9 <= by_share.sparsity < 0.95
    by_count = read_pruning(prune_stage(min_count=10))
    assert "at least 10 training images" in by_count.rule
    layer = read_pruning(prune_stage(sparsity=0.8, scope="layer"))
    assert all(part.num_edges <= 0.2 * part.num_edges_before + 1 for part in layer.layers)


def test_the_curve_rises_and_starts_where_nothing_is_lost(prune_stage) -> None:
    pruning = read_pruning(prune_stage(curve_points=5))
    sparsities = [point.sparsity for point in pruning.curve]
    assert sparsities == sorted(sparsities)
    assert pruning.curve[0].accuracy.num_certified >= pruning.before.num_certified - 1


def test_the_same_run_gives_the_same_bytes(prune_stage) -> None:
    first, second = prune_stage(name="one"), prune_stage(name="two", batch_size=17)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name


def test_two_ranks_prune_as_one_does(prune_stage, start_prune, tmp_path) -> None:
    alone = read_pruning(prune_stage())
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    processes = [start_prune(tmp_path / "shared", rank, 2, port) for rank in (0, 1)]
    for process in processes:
        assert process.wait(timeout=120) == 0, process.stderr.read()
    assert read_pruning(tmp_path / "shared") == alone


def test_fine_tuning_is_kept_only_if_neither_accuracy_suffers(prune_stage) -> None:
    plain = read_pruning(prune_stage(sparsity=0.97))
    tune = {"epochs": 3, "learning_rate": 0.003, "eps_train": "1/10", "batch_size": 50}
    tuned = read_pruning(prune_stage(sparsity=0.97, fine_tune=tune))
    assert tuned.is_fine_tuned
    assert tuned.after.num_correct >= plain.after.num_correct
    assert tuned.after.num_certified >= plain.after.num_certified
    wild = read_pruning(prune_stage(sparsity=0.9, fine_tune=tune | {"learning_rate": 30}))
    assert not wild.is_fine_tuned


def test_certificates_of_the_pruned_network_hold(prune_stage, data_dir, tools) -> None:
    loaded = load_network(prune_stage())
    images = load_split(data_dir, read_manifest(data_dir), "test")
    prover = FloatProver(loaded.network, tools.normalisation)
    x = tools.normalisation.apply(images.images)
    radius = prover.by_margin(images.images, images.labels).radius
    assert (radius > 0.1).sum() > 5
    for seed in range(30):
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
        step = (radius / tools.normalisation.std).float().view(-1, 1, 1, 1) * (1 - 1e-5)
        logits = prover.logits(x + noise.sign() * step)
        assert (logits.argmax(1) == images.labels)[radius > 0].all()


def test_a_network_trained_at_finite_p_is_refused(prune_stage, network, tmp_path, tools) -> None:
    finite = tools.write_network(tmp_path / "finite", network, last_p=100.0)
    with pytest.raises(UserError, match=r"trained at p up to 100, never at infinity"):
        prune_stage(network=finite)


def test_a_network_without_history_is_refused(prune_stage, network_dir) -> None:
    (network_dir / "history.jsonl").unlink()
    with pytest.raises(StageError, match=r"history.jsonl: cannot be read"):
        prune_stage()


def test_shards_of_another_data_set_are_refused(prune_stage, tmp_path, tools) -> None:
    (tmp_path / "other").mkdir()
    other = tools.write_data(tmp_path / "other", classes=("a", "b", "c"), mean=(0.4,))
    with pytest.raises(UserError, match=r"does not fit these shards.*classes.*channel means"):
        prune_stage(data=other)


def test_balls_of_another_norm_are_refused(prune_stage) -> None:
    with pytest.raises(UserError, match=r"norm l2 is given.* certified in linf balls"):
        prune_stage(norm="l2", eps="79/50")


def test_a_hybrid_and_a_pruned_network_are_refused(prune_stage, tmp_path, tools) -> None:
    settings = HybridSettings(kind="hybrid", width=8, depth=1, hidden=4)
    network = build_network(settings, tools.shape, 3).eval()
    hybrid = tools.write_network(tmp_path / "hybrid", network, settings)
    with pytest.raises(UserError, match=r"a network of kind hybrid cannot be pruned"):
        prune_stage(network=hybrid)
    with pytest.raises(UserError, match=r"kind sparse_mlp cannot be pruned"):
        prune_stage(network=prune_stage(name="once"), name="twice")


def test_a_sparsity_that_empties_a_layer_is_refused(prune_stage) -> None:
    with pytest.raises(UserError, match=r"leaves layer \d of 3 without edges|depends on no pixel"):
        prune_stage(sparsity=0.9999)


def test_a_sparsity_and_a_count_together_are_refused(prune_stage) -> None:
    with pytest.raises(ValidationError, match=r"give one of them"):
        prune_stage(sparsity=0.9, min_count=5)


def test_the_histogram_counts_every_edge_once() -> None:
    uses = torch.tensor([[0, 0, 1, 2], [3, 4, 7, 8]])
    assert use_histogram(uses) == (2, 1, 2, 2, 1)


def test_pruning_json_is_read_with_care(prune_stage) -> None:
    folder = prune_stage()
    content = json.loads((folder / "pruning.json").read_text())
    content["layers"][0]["num_edges"] = "many"
    (folder / "pruning.json").write_text(json.dumps(content))
    with pytest.raises(StageError, match=r"pruning.json is damaged"):
        read_pruning(folder)
