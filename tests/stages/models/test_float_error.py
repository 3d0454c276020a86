import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.data.radius import largest_float_up_to
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.float_error import (
    features_reached,
    float_slack,
    logit_error,
    margin_radius,
    normalisation_error,
)
from stages.models.linf.network import build_network
from stages.models.margin import margin, predicted_classes

NORMALISATIONS = [
    Normalisation((0.286,), 0.352),
    Normalisation((0.1307,), 0.3081),
    Normalisation((0.0,), 1.0),
    Normalisation((0.4914, 0.4822, 0.4465), 0.2009),
]


def is_certified(radius, eps):
    return radius > largest_float_up_to(eps)


def error_of(network, normalisation):
    return logit_error(network.head, features_reached(network, normalisation))


def slack_of(network, normalisation):
    return float_slack(network.head, features_reached(network, normalisation))


def tiny_network(seed, channels=1, width=5, depth=3, size=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_network(
            DistanceMLPSettings(kind="distance_mlp", width=width, depth=depth), (2, 2, channels), 3
        )
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.normal_(0, size)
            for layer in network.hidden:
                layer.centering.running_mean.normal_(0, size)
    return network.eval()


def exact_normalised(images, normalisation):
    return [
        [
            (Fraction(value, 255) - Fraction(mean)) / Fraction(normalisation.std)
            for channel, mean in zip(image, normalisation.mean, strict=True)
            for row in channel
            for value in row
        ]
        for image in images.tolist()
    ]


def exact_logits(network, inputs):
    """The network in rational arithmetic, on rational inputs: one list of K fractions a row."""
    for layer in network.hidden:
        shift = [Fraction(value) for value in layer.centering.running_mean.tolist()]
        distances = exact_distances(layer.distance, inputs)
        inputs = [[d - s for d, s in zip(row, shift, strict=True)] for row in distances]
    bias = [Fraction(value) for value in network.head.bias.tolist()]
    distances = exact_distances(network.head.distance, inputs)
    return [[-(d + b) for d, b in zip(row, bias, strict=True)] for row in distances]


def exact_distances(layer, inputs):
    rows = [[Fraction(value) for value in row] for row in layer.weight.tolist()]
    return [
        [max(abs(x - w) for x, w in zip(image, row, strict=True)) for row in rows]
        for image in inputs
    ]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-30, 1e-3, 1.0, 30.0, 1e6]),
    normalisation=st.sampled_from(NORMALISATIONS),
)
def test_logit_error_bounds_the_distance_to_rational_arithmetic(seed, size, normalisation):
    network = tiny_network(seed, len(normalisation.mean), size=size)
    shape = (3, len(normalisation.mean), 2, 2)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator(seed))
    found = network(normalisation.apply(images), math.inf).tolist()
    exact = exact_logits(network, exact_normalised(images, normalisation))
    bound = Fraction(error_of(network, normalisation))
    for row, exact_row in zip(found, exact, strict=True):
        for logit, exact_logit in zip(row, exact_row, strict=True):
            assert abs(Fraction(logit) - exact_logit) <= bound


def test_float_errors_come_near_their_bound():
    """Not many times too large: the worst error seen is within a factor 20 of the bound."""
    normalisation = NORMALISATIONS[0]
    worst = 0.0
    for seed in range(20):
        network = tiny_network(seed)
        images = torch.randint(256, (8, 1, 2, 2), dtype=torch.uint8, generator=generator(seed))
        found = network(normalisation.apply(images), math.inf).double()
        exact = exact_logits(network, exact_normalised(images, normalisation))
        error = (found - torch.tensor([[float(z) for z in row] for row in exact])).abs().max()
        worst = max(worst, error.item() / error_of(network, normalisation))
    assert worst > 1 / 20


def test_logit_error_covers_the_rounding_of_the_normalisation():
    """Far from 0 it is all there is: x near -1000 is coarse, |x - w| below 1 is exact."""
    normalisation = Normalisation((1000.3,), 1.0)
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, 1, 1), 2
    ).eval()
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([[-999.5], [-999.6]]))
    images = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    found = network(normalisation.apply(images), math.inf).double()
    exact = exact_logits(network, exact_normalised(images, normalisation))
    error = (found - torch.tensor([[float(z) for z in row] for row in exact])).abs().max()
    bound = error_of(network, normalisation)
    assert bound / 4 < error <= bound


def test_slack_is_small_beside_a_radius_of_one_grey_level():
    network = tiny_network(0)
    slack = slack_of(network, NORMALISATIONS[0])
    assert 0 < slack < 1e-3 * NORMALISATIONS[0].eps_input(Fraction(1, 255))


def test_feature_error_bounds_features():
    network = build_network(
        HybridSettings(kind="hybrid", width=6, depth=2, hidden=4), (2, 2, 1), 3
    ).eval()
    reached = features_reached(network, NORMALISATIONS[0])
    error, largest = reached.error, reached.largest
    images = torch.randint(256, (64, 1, 2, 2), dtype=torch.uint8, generator=generator(0))
    features = network.features(NORMALISATIONS[0].apply(images), math.inf)
    assert 0 < error < 1e-4
    assert features.abs().max() <= largest


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        slack_of(tiny_network(0).train(), NORMALISATIONS[0])


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_normalisation_error_is_below_its_documented_bound(normalisation):
    bound = 2.0**-22 * max(1.0, *normalisation.mean) / normalisation.std
    assert 0 <= normalisation_error(normalisation, "cpu") <= bound


def test_margin_of_hand_worked_logits():
    logits = torch.tensor([[1.0, 3.0, 2.5], [1.0, 3.0, 2.5], [4.0, 4.0, 0.0]])
    labels = torch.tensor([1, 2, 0])
    assert margin(logits, labels).tolist() == pytest.approx([0.5, -0.5, 0.0])
    assert predicted_classes(logits, labels).tolist() == [1, 1, 1]


def test_margin_is_rounded_down():
    logits = torch.tensor([[1.0, 2.0**-60]], dtype=torch.float64)
    found = margin(logits, torch.tensor([0])).item()
    assert Fraction(found) <= 1 - Fraction(2) ** -60


@settings(deadline=None)
@given(
    value=st.floats(1e-6, 50.0),
    slack=st.floats(0.0, 1e-3),
    std=st.floats(0.05, 2.0),
    eps=st.fractions(Fraction(1, 10000), 1),
)
def test_a_radius_never_certifies_beyond_the_exact_rule(value, slack, std, eps):
    exact = (Fraction(value) - Fraction(slack)) * Fraction(std) / 2
    margins = torch.tensor([value], dtype=torch.float64)
    radius = margin_radius(margins, slack, std)
    assert Fraction(radius.item()) <= max(exact, Fraction(0))
    assert is_certified(radius, eps).item() == (eps < Fraction(radius.item()))


def test_radius_loses_next_to_nothing():
    margins = torch.tensor([1.0], dtype=torch.float64)
    assert margin_radius(margins, 0.0, 0.5).item() == pytest.approx(0.25, rel=1e-12)


def test_equality_does_not_certify():
    radius = torch.tensor([0.25, math.nextafter(0.25, 1)], dtype=torch.float64)
    assert is_certified(radius, Fraction(1, 4)).tolist() == [False, True]
    of_margin = margin_radius(torch.tensor([0.5], dtype=torch.float64), 0.0, 1.0)
    assert not is_certified(of_margin, Fraction(1, 4)).item()


def test_what_is_not_a_number_never_certifies():
    margins = torch.tensor([math.nan, math.inf, -math.inf, -1.0, 0.0], dtype=torch.float64)
    assert margin_radius(margins, 0.0, 1.0).tolist() == [0.0] * 5
    logits = torch.tensor([[math.nan, 1.0], [5.0, math.nan], [5.0, -math.inf]])
    found = margin(logits, torch.tensor([0, 0, 0]))
    assert not is_certified(margin_radius(found, 0.0, 1.0), Fraction(0)).any()


def test_the_slack_is_taken_off():
    margins = torch.tensor([0.5 + 1e-6], dtype=torch.float64)
    found = [
        is_certified(margin_radius(margins, slack, 1.0), Fraction(1, 4)).item()
        for slack in (0.0, 2e-6)
    ]
    assert found == [True, False]


def generator(seed):
    return torch.Generator().manual_seed(seed)
