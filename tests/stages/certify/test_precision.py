"""How fine the whole numbers are is decided by the validation images."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from pipeline.errors import UserError
from stages.certify.precision import (
    MOST_CHANGE,
    choose_precision,
    count_exact,
    count_float,
    make_integer_network,
)
from stages.data.in_memory import ImageSet
from stages.data.manifest import read_manifest

EPS = Fraction(1, 30)


def images_of(tools, count=4000):
    images, labels = tools.images_near_prototypes(count, 3)
    return ImageSet("validation", images, labels)


def with_far_weight(loaded, weight):
    """The network with one weight so far away that few fractional bits are left of 16."""
    with torch.no_grad():
        loaded.network.hidden[0].distance.weight[0, 0] = weight
        loaded.network.hidden[0].centering.running_mean[0] = -weight
    return loaded


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_counts_are_those_of_single_images(tools, kind):
    loaded, images = tools.loaded_network(kind), images_of(tools, 700)
    counts = count_float(loaded, images, EPS)
    logits = loaded.network(loaded.normalisation.apply(images.images), math.inf)
    own = logits.gather(1, images.labels[:, None])
    others = logits.scatter(1, images.labels[:, None], -math.inf).amax(1, keepdim=True)
    assert abs(counts.num_correct - int((own > others).sum())) <= 1
    assert 0 < counts.num_certified < counts.num_correct
    if kind == "distance":  # the hybrid has ties, which whole numbers break either way
        found = count_exact(choose_precision(loaded, images, EPS), images, EPS)
        assert found.num_correct == counts.num_correct


def test_the_finest_network_of_16_bits_is_taken_where_it_keeps_the_accuracies(tools):
    loaded, images = tools.loaded_network("distance"), images_of(tools)
    network = choose_precision(loaded, images, EPS)
    assert network.dtype == torch.int16 and network.fraction_bits >= 3
    wanted, found = count_float(loaded, images, EPS), count_exact(network, images, EPS)
    for before, after in zip(wanted, found, strict=True):
        assert abs(after - before) <= MOST_CHANGE * len(images)


def test_32_bits_are_taken_where_16_are_too_coarse(tools):
    loaded = with_far_weight(tools.loaded_network("distance"), -300.0)
    images = images_of(tools)
    network = choose_precision(loaded, images, EPS)
    assert network.dtype == torch.int32 and 1 <= network.fraction_bits < 16
    wanted, found = count_float(loaded, images, EPS), count_exact(network, images, EPS)
    assert max(abs(b - a) for a, b in zip(wanted, found, strict=True)) <= 2


def test_a_network_that_no_fineness_keeps_is_refused(tools, monkeypatch):
    loaded, images = tools.loaded_network("distance"), images_of(tools, 300)
    monkeypatch.setattr("stages.certify.precision.MOST_CHANGE", Fraction(-1))
    with pytest.raises(UserError, match="no integer network with up to 16 fractional bits"):
        choose_precision(loaded, images, EPS)


def test_the_settings_decide_where_they_say_how_fine(world, tools):
    manifest = read_manifest(world.data_dir)
    loaded = tools.loaded_network("distance")
    for bits in (None, 2):
        settings = tools.settings_for(fraction_bits=bits)
        network = make_integer_network(world.data_dir, manifest, loaded, settings)
        assert network.fraction_bits == (12 if bits is None else bits)


def test_weights_that_are_no_numbers_and_training_mode_are_refused(world, tools):
    manifest, settings = read_manifest(world.data_dir), tools.settings_for()
    loaded = tools.loaded_network("distance")
    with pytest.raises(UserError, match="training mode"):
        network = tools.distance_network().train()
        make_integer_network(world.data_dir, manifest, replace(loaded, network=network), settings)
    with torch.no_grad():
        loaded.network.last.weight[0, 0] = math.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        make_integer_network(world.data_dir, manifest, loaded, settings)
