import math
import threading
from fractions import Fraction

import pytest
import torch

from pipeline.errors import StageError, UserError
from pipeline.ranks import Ranks
from stages.certify.run import run
from stages.data.manifest import read_manifest, write_manifest
from stages.data.records import read_records, read_summary
from stages.models.linf.float_error import margin_radius
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.heads import distance
from stages.models.network_file import load_network


def rows_of(folder):
    """All rows without the one column that differs from run to run."""
    return [row.model_dump(exclude={"seconds"}) for row in read_records(folder / "records.csv")]


def test_certified_is_at_most_attacked_is_at_most_clean_image_by_image(any_world, tools, tmp_path):
    out = tmp_path / "out"
    run(any_world.context(out), tools.settings_for())
    rows = read_records(out / "records.csv")
    assert [row.key for row in rows] == [f"test-{index:06d}" for index in range(40)]
    assert [row.label for row in rows] == any_world.labels.tolist()
    for row in rows:
        assert row.certified <= row.attacked_correct <= row.is_correct
    summary = read_summary(out)
    assert 0.1 < summary.certified_accuracy <= summary.attacked_accuracy < summary.clean_accuracy
    assert summary.attacked_accuracy <= summary.pgd_accuracy <= summary.clean_accuracy
    written = ["network.int.json", "network.int.safetensors", "records.csv", "summary.json"]
    assert sorted(path.name for path in out.iterdir()) == written


def test_certified_float_radii_hold_at_random_points_of_the_ball(any_world, tools, tmp_path):
    out = tmp_path / "out"
    run(any_world.context(out), tools.settings_for(certifier={"kind": "float"}))
    loaded = load_network(any_world.network_dir)
    prover = FloatProver(loaded.network, loaded.normalisation)
    radius = torch.tensor([row.radius for row in read_records(out / "records.csv")])
    pixels = any_world.images.double() / 255
    generator = torch.Generator().manual_seed(0)
    for number in range(100):
        noise = torch.rand(pixels.shape, generator=generator, dtype=torch.float64) * 2 - 1
        noise = noise.sign() if number % 2 else noise
        moved = (pixels + noise * (radius * 0.9999).view(-1, 1, 1, 1)).clamp(0, 1)
        inputs = ((moved - loaded.normalisation.mean[0]) / loaded.normalisation.std).float()
        found = prover.logits(inputs).argmax(1)
        assert (found == any_world.labels)[radius > 0].all()


@pytest.mark.parametrize("method", ["exact", "float"])
def test_predictions_are_the_networks(world, tools, tmp_path, method):
    out = tmp_path / "out"
    run(world.context(out), tools.settings_for(certifier={"kind": method}))
    loaded = load_network(world.network_dir)
    logits = loaded.network(loaded.normalisation.apply(world.images), math.inf)
    assert [row.predicted for row in read_records(out / "records.csv")] == logits.argmax(1).tolist()


def test_the_grid_counts_what_radii_say(world, tools, tmp_path):
    out = tmp_path / "out"
    run(world.context(out), tools.settings_for(eps_grid=["0", "1/20", "1/5"]))
    rows, summary = read_records(out / "records.csv"), read_summary(out)
    for point in summary.eps_grid:
        assert point.num_certified == sum(point.eps < row.exact_radius for row in rows)
    assert [point.eps for point in summary.eps_grid] == [0, *map(Fraction, ("1/20", "1/10", "1/5"))]
    counts = [point.num_certified for point in summary.eps_grid]
    assert counts == sorted(counts, reverse=True)
    assert summary.eps_grid[2].num_certified == summary.num_certified


@pytest.mark.parametrize("method", ["exact", "float"])
def test_the_interval_proves_what_the_margin_proves_and_more(world, tools, tmp_path, method):
    found = {}
    for certificates in (("margin",), ("interval",), ("margin", "interval")):
        out = tmp_path / "-".join(certificates)
        attack = {"steps": 1, "surrogates": ["inf"], "square_queries": 0}
        certifier = {"kind": method, "certificates": certificates}
        settings = tools.settings_for(certifier=certifier, attack=attack)
        run(world.context(out), settings)
        found[certificates] = read_records(out / "records.csv")
        assert read_summary(out).certified_method == f"{method} {'+'.join(certificates)}"
    by_margin, by_interval, by_both = found.values()
    assert {row.method for row in by_margin} == {"margin", "none"}
    assert {row.method for row in by_both} == {"margin", "interval", "none"}
    for margin, interval, both in zip(by_margin, by_interval, by_both, strict=True):
        assert both.radius >= margin.radius
        for eps in tools.settings_for().grid():
            proved = [row.is_certified_at(eps) for row in (margin, interval, both)]
            assert proved[0] <= proved[1] == proved[2]
    assert sum(row.radius for row in by_both) > 1.01 * sum(row.radius for row in by_margin)


@pytest.mark.parametrize("method", ["exact", "float"])
def test_an_inflated_margin_is_found_by_the_attack_and_named(
    world, tools, tmp_path, monkeypatch, method
):
    cube_radius = distance._IntegerJudge.cube_radius
    monkeypatch.setattr(distance, "margin_radius", lambda *given: 3 * margin_radius(*given))
    monkeypatch.setattr(
        distance._IntegerJudge, "cube_radius", lambda *given: 3 * cube_radius(*given)
    )
    with pytest.raises(
        StageError, match=r"test-0000\d\d is certified .*margin .*radius .*eps 1/10"
    ):
        run(world.context(tmp_path / "out"), tools.settings_for(certifier={"kind": method}))
    assert not (tmp_path / "out" / "summary.json").exists()


def test_images_within_the_slack_are_counted_and_not_certified(world, tools, tmp_path, monkeypatch):
    """With a slack of four radii many images fall within it; they are right, and open."""
    out = tmp_path / "out"
    settings = tools.settings_for(
        eps="1/40", certifier={"kind": "float", "certificates": ["margin"]}
    )
    run(world.context(out), settings)
    plain = {row.key for row in read_records(out / "records.csv") if row.certified}
    assert read_summary(out).num_within_slack == 0
    slack = 4 * tools.normalisation.eps_input(settings.eps)
    monkeypatch.setattr(distance, "float_slack", lambda *_: slack)
    run(world.context(tmp_path / "slack"), settings)
    rows = read_records(tmp_path / "slack" / "records.csv")
    within = {row.key for row in rows if row.within_slack}
    assert within == plain - {row.key for row in rows if row.certified} and len(within) > 3
    assert read_summary(tmp_path / "slack").num_within_slack == len(within)


def test_two_ranks_write_the_rows_of_one(any_world, tools, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    settings = tools.settings_for(attack={"steps": 3, "restarts": 2, "square_queries": 5})
    run(any_world.context(alone), settings)
    for rank in (1, 0):
        run(any_world.context(shared, Ranks(rank, 2, rank, 2)), settings)
    assert rows_of(shared) == rows_of(alone)


def test_the_first_rank_waits_for_the_others(world, tools, tmp_path):
    out, settings = tmp_path / "out", tools.settings_for()
    first = threading.Thread(target=run, args=(world.context(out, Ranks(0, 2)), settings))
    first.start()
    first.join(1.0)
    assert first.is_alive()
    run(world.context(out, Ranks(1, 2)), settings)
    first.join(20)
    assert not first.is_alive()
    assert len(rows_of(out)) == 40


def test_a_killed_run_goes_on_from_its_rows(world, tools, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    settings = tools.settings_for()
    run(world.context(whole), settings)
    run(world.context(out, Ranks(1, 2)), settings)
    (finished,) = (out / "parts").iterdir()
    stamp = finished.stat().st_mtime_ns
    (out / "parts" / "000000.csv").write_text("key,label\ntest-0000")
    run(world.context(out, Ranks(1, 3)), settings)
    assert finished.stat().st_mtime_ns == stamp, "a finished batch is not done again"
    run(world.context(out), settings)
    assert rows_of(out) == rows_of(whole)


def test_torn_rows_are_done_again(world, tools, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    settings = tools.settings_for()
    run(world.context(whole), settings)
    run(world.context(out, Ranks(1, 2)), settings)
    (part,) = (out / "parts").iterdir()
    part.write_text(part.read_text()[:-30])
    run(world.context(out), settings)
    assert rows_of(out) == rows_of(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": 0.36}, "std: the network expects 0.35, the shards have 0.36"),
        ({"mean": (0.2,)}, "channel means"),
        ({"classes": ("a", "b", "c")}, "classes"),
        ({"image_shape": (4, 5, 1)}, "image shape"),
        ({"splits": {}}, "no images in split 'test'"),
    ],
)
def test_shards_that_do_not_fit_the_network_are_refused(world, tools, tmp_path, changes, message):
    manifest = read_manifest(world.data_dir)
    write_manifest(world.data_dir, manifest.model_copy(update=changes))
    with pytest.raises(UserError, match=message):
        run(world.context(tmp_path / "out"), tools.settings_for())
    assert not any((tmp_path / "out").iterdir())
