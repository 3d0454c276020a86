from fractions import Fraction

import pytest
import torch

from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import build_network
from stages.models.radius_search import extend_radius

IDENTITY = Normalisation((0.0,), 1.0)
SIXTEENTHS = [Fraction(step, 16) for step in range(17)]


def two_point_network():
    """One pixel, classes at 0 and 1: logits -x and -(1 - x) for x in [0, 1]."""
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, 1, 1), 2
    )
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([[0.0], [1.0]]))
    return network.eval()


def corner_network():
    """Two pixels, classes at (0, 0) and (1, 1)."""
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, 2, 1), 2
    )
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    return network.eval()


def raised(network, image, label, start, grid, num_steps):
    prover = FloatProver(network, IDENTITY)
    images = torch.tensor(image, dtype=torch.uint8).view(1, 1, 1, -1)

    def prove(rows, radius):
        return prover.by_box(images[rows], radius, torch.tensor([label])[rows])

    start = torch.tensor([start], dtype=torch.float64)
    levels = torch.tensor([prover.level_above(eps) for eps in grid], dtype=torch.float64)
    return extend_radius(prove, start, levels, num_steps).item()


def test_levels_are_just_above_the_grid():
    grid = [Fraction(1, 4), Fraction(1, 10), Fraction(0)]
    prover = FloatProver(two_point_network(), IDENTITY)
    for eps in grid:
        level = prover.level_above(eps)
        assert eps < Fraction(level) < eps + Fraction(1, 10**15)


def test_it_proves_what_the_margin_proves():
    """At (0, a) class 0 is at most a + r away, class 1 at least 1 - r: proved below (1 - a) / 2."""
    found = raised(corner_network(), [0, 64], 0, 0.0, SIXTEENTHS, 20)
    truth = (1 - 64 / 255) / 2
    assert truth - 1e-4 < found <= truth


def test_it_proves_more_where_the_ball_holds_images_that_are_not_valid():
    """A white pixel can only darken, and only the brighter half of its ball endangers class 0.

    In the box [1 - r, 1] class 0 is at most 0.5 away, class 1 at least 1.2 - r: proved below 0.7.
    """
    network = two_point_network()
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([[0.5], [-0.2]]))
    prover = FloatProver(network, IDENTITY)
    by_margin = prover.by_margin(
        torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), torch.tensor([0])
    ).radius.item()
    assert by_margin == pytest.approx(0.35, abs=1e-4)
    found = raised(network, [255], 0, by_margin, SIXTEENTHS, 20)
    assert 0.7 - 1e-4 < found <= 0.7


def test_a_radius_beyond_the_last_level_is_left_alone():
    assert raised(two_point_network(), [0], 0, 0.3, [Fraction(1, 10)], 5) == 0.3


def test_without_bisection_the_last_proved_level_is_the_radius():
    found = raised(two_point_network(), [0], 0, 0.0, SIXTEENTHS, 0)
    assert 7 / 16 < found < 7 / 16 + 1e-12


def test_nothing_is_proved_at_a_tie():
    grid = [Fraction(0), Fraction(1, 16)]
    network = corner_network()
    with torch.no_grad():
        network.head.distance.weight.zero_()
    assert raised(network, [0, 0], 0, 0.0, grid, 3) == pytest.approx(0, abs=0)


def test_whole_numbers_climb_and_bisect_as_floats_do():
    """Proved below 71 units, and each proof reaches one unit beyond what was tried."""

    def prove(rows, radius):
        return torch.where(radius < 71, radius + 1, 0)

    start = torch.tensor([0, 30, 71, 90])
    levels = torch.tensor([1, 41, 81])
    assert extend_radius(prove, start, levels, 0).tolist() == [42, 42, 71, 90]
    assert extend_radius(prove, start, levels, 10).tolist() == [71, 71, 71, 90]
