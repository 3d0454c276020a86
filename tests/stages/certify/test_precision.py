"""How fine the whole numbers are is decided by the validation images."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from pipeline.errors import UserError
from stages.data.in_memory import ImageSet
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.precision import (
    MOST_CHANGE,
    _count,
    choose_precision,
    make_integer_network,
)

EPS = Fraction(1, 30)


def count_float(loaded, images):
    return _count(FloatProver(loaded.network, loaded.normalisation), images, EPS)


def count_exact(network, images):
    return _count(ExactProver(network), images, EPS)


def both(counts):
    return counts.num_correct, counts.num_certified


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
    counts = count_float(loaded, images)
    logits = loaded.network(loaded.normalisation.apply(images.images), math.inf)
    own = logits.gather(1, images.labels[:, None])
    others = logits.scatter(1, images.labels[:, None], -math.inf).amax(1, keepdim=True)
    assert abs(counts.num_correct - int((own > others).sum())) <= 1
    assert 0 < counts.num_certified < counts.num_correct
    if kind == "distance":  # the hybrid has ties, which whole numbers break either way
        found = count_exact(choose_precision(loaded, images, EPS), images)
        assert found.num_correct == counts.num_correct


def test_the_finest_network_of_16_bits_is_taken_where_it_keeps_the_accuracies(tools):
    loaded, images = tools.loaded_network("distance"), images_of(tools)
    network = choose_precision(loaded, images, EPS)
    assert network.dtype == torch.int16 and network.fraction_bits >= 3
    wanted, found = count_float(loaded, images), count_exact(network, images)
    for before, after in zip(both(wanted), both(found), strict=True):
        assert abs(after - before) <= MOST_CHANGE * len(images)


def test_32_bits_are_taken_where_16_are_too_coarse(tools):
    loaded = with_far_weight(tools.loaded_network("distance"), -300.0)
    images = images_of(tools)
    network = choose_precision(loaded, images, EPS)
    assert network.dtype == torch.int32 and 1 <= network.fraction_bits < 16
    wanted, found = count_float(loaded, images), count_exact(network, images)
    assert max(abs(b - a) for a, b in zip(both(wanted), both(found), strict=True)) <= 2


def test_a_network_that_no_fineness_keeps_is_refused(tools, monkeypatch):
    loaded, images = tools.loaded_network("distance"), images_of(tools, 300)
    monkeypatch.setattr("stages.models.linf.precision.MOST_CHANGE", Fraction(-1))
    with pytest.raises(UserError, match="no integer network with up to 16 fractional bits"):
        choose_precision(loaded, images, EPS)


def test_the_settings_decide_where_they_say_how_fine(tools):
    loaded = tools.loaded_network("distance")
    for bits in (None, 2):
        network = make_integer_network(loaded, bits, EPS, lambda: None)
        assert network.fraction_bits == (12 if bits is None else bits)


def test_weights_that_are_no_numbers_and_training_mode_are_refused(tools):
    loaded = tools.loaded_network("distance")
    with pytest.raises(UserError, match="training mode"):
        network = tools.distance_network().train()
        make_integer_network(replace(loaded, network=network), None, EPS, lambda: None)
    with torch.no_grad():
        loaded.network.head.distance.weight[0, 0] = math.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        make_integer_network(loaded, None, EPS, lambda: None)
