"""Exact proofs against exhaustive search, and the same on any machine."""

import math
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.backend import available_cpu_kernels, cpu_kernels
from kernels.layers import Box
from stages.data.radius import largest_float_up_to
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import build_network
from stages.models.linf.quantise import dequantise, quantise

GREY = Normalisation((0.286,), 0.352)
IDENTITY = Normalisation((0.0,), 1.0)


def is_certified(radius, eps):
    return radius > largest_float_up_to(eps)


def radius_of(prover, half_units):
    return Fraction(half_units, prover.ticks_per_pixel)


def network_of(kind, seed, shape=(3, 3, 1)):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = (
            build_network(DistanceMLPSettings(kind="distance_mlp", width=16, depth=3), shape, 3)
            if kind == "distance"
            else build_network(HybridSettings(kind="hybrid", width=16, depth=2, hidden=8), shape, 3)
        )
        for layer in built.hidden:
            layer.centering.running_mean.normal_(10.0, 0.3)
    return built.eval()


def images_of(seed, count=64, shape=(1, 3, 3)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


def prover_of(kind, seed, bits=5):
    return ExactProver(quantise(network_of(kind, seed), GREY, (3, 3, 1), bits))


def own_labels(prover, images):
    labels = torch.zeros(len(images), dtype=torch.int64)
    return prover.by_margin(images, labels).predicted


def two_classes(first, second):
    """Distances to two points, whole pixels as units."""
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, len(first), 1), 2
    )
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([first, second]) / 255)
    return ExactProver(quantise(network.eval(), IDENTITY, (1, len(first), 1), 0))


def image(*values):
    return torch.tensor(values, dtype=torch.uint8).view(1, 1, 1, -1)


LABEL_0 = torch.tensor([0])


def test_a_margin_worked_by_hand():
    """At 70 the classes 0 and 200 are 70 and 130 away: the answer stands below a change of 30."""
    prover = two_classes([0.0], [200.0])
    proof = prover.by_margin(image(70), LABEL_0)
    assert (proof.predicted.item(), proof.radius.item()) == (0, 60)
    assert radius_of(prover, 60) == Fraction(30, 255)
    assert proof.margin.item() == pytest.approx(60 / 255)
    assert prover.margins(image(99).short(), LABEL_0) > 0
    assert prover.margins(image(100).short(), LABEL_0) == 0


def test_equality_does_not_certify():
    proof = two_classes([0.0], [200.0]).by_margin(image(70), LABEL_0)
    radius = Fraction(proof.radius.item(), 510)
    assert not radius > Fraction(30, 255) and radius > Fraction(30, 255) - Fraction(1, 10**9)


def test_a_tie_goes_against_the_label():
    prover = two_classes([0.0], [200.0])
    for label in (0, 1):
        proof = prover.by_margin(image(100), torch.tensor([label]))
        assert (proof.predicted.item(), proof.radius.item()) == (1 - label, 0)
        assert prover.by_box(image(100), torch.tensor([0]), torch.tensor([label])) == 0


def test_a_box_without_invalid_pixels_proves_more():
    """A white pixel can only darken; only the darker part of its ball endangers class 0."""
    prover = two_classes([128.0], [-51.0])
    by_margin = prover.by_margin(image(255), LABEL_0).radius
    assert by_margin.item() == 306 - 127
    by_box = prover.by_box(image(255), torch.tensor([2 * 170]), LABEL_0)
    assert by_box.item() == 2 * 170 + (306 - 170 - 127)
    assert prover.by_box(image(255), torch.tensor([2 * 180]), LABEL_0).item() == 0


def test_a_box_whose_ends_touch_proves_nothing():
    """At 30 around 70 both classes can be 100 away."""
    prover = two_classes([0.0], [200.0])
    assert prover.by_box(image(70), torch.tensor([58]), LABEL_0).item() == 58 + 2
    assert prover.by_box(image(70), torch.tensor([60]), LABEL_0).item() == 0


def test_boxes_are_cut_to_valid_pixels_and_to_whole_units():
    prover = prover_of("distance", 0, bits=2)
    lower, upper = prover.box_around(image(0, 250, 255), torch.tensor([45]))
    assert lower.flatten().tolist() == [0, 978, 998]
    assert upper.flatten().tolist() == [22, 1020, 1020]


@settings(max_examples=60, deadline=None)
@given(
    weights=st.lists(st.integers(-300, 500), min_size=6, max_size=6),
    values=st.tuples(st.integers(0, 255), st.integers(0, 255)),
    radius=st.integers(0, 6),
)
def test_no_point_of_a_proved_ball_is_wrong_by_exhaustion(weights, values, radius):
    """Every point of a ball of up to 6 units in the plane; proofs by margin and by box."""
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, 2, 1), 3
    )
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor(weights).view(3, 2) / 255)
    prover = ExactProver(quantise(network.eval(), IDENTITY, (1, 2, 1), 0))
    labels = own_labels(prover, image(*values))
    by_margin = prover.by_margin(image(*values), labels).radius
    by_box = prover.by_box(image(*values), torch.tensor([2 * radius]), labels)
    proved = max(by_margin.item(), by_box.item())
    reach = range(-radius, radius + 1)
    for moves in product(reach, reach):
        point = [value + move for value, move in zip(values, moves, strict=True)]
        distance = max(map(abs, moves))
        if 2 * distance < proved and all(0 <= x <= 255 for x in point):
            found = torch.tensor(point, dtype=torch.int16).view(1, 1, 1, 2)
            assert prover.margins(found, labels) > 0


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
@pytest.mark.parametrize("bits", [3, 12])
def test_no_random_point_of_a_proved_ball_changes_the_answer(kind, bits):
    num_proved = 0
    for seed in range(4):
        prover, images = prover_of(kind, seed, bits), images_of(seed)
        labels = own_labels(prover, images)
        radius = prover.by_margin(images, labels).radius
        box_radius = prover.by_box(images, radius + 2, labels)
        radius = torch.maximum(radius, box_radius)
        box = prover.box_around(images, (radius - 1).clamp(min=0))
        generator = torch.Generator().manual_seed(seed)
        for _ in range(40):
            corner = torch.randint(0, 2, images.shape, generator=generator).bool()
            margins = prover.margins(torch.where(corner, *box), labels)
            assert (margins[radius > 0] > 0).all()
        num_proved += (radius > prover.ticks_per_pixel // 500).sum()
    assert num_proved > 80


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_exact_radii_are_the_float_ones_up_to_rounding(kind):
    network = network_of(kind, 3)
    integers = quantise(network, GREY, (3, 3, 1), 12)
    prover, images = ExactProver(integers), images_of(3)
    labels = own_labels(prover, images)
    exact = prover.by_margin(images, labels)
    close = FloatProver(dequantise(integers), GREY).by_margin(images, labels)
    radius = exact.radius.double() / prover.ticks_per_pixel
    torch.testing.assert_close(radius, close.radius, atol=1e-5, rtol=0)
    torch.testing.assert_close(exact.margin, close.margin, atol=1e-4, rtol=0)
    assert (radius > 0.01).sum() > 10


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_a_box_proves_at_least_what_was_tried(kind):
    prover, images = prover_of(kind, 5), images_of(5)
    labels = own_labels(prover, images)
    radius = prover.by_margin(images, labels).radius
    for tried in (radius // 2, radius - radius % 2, radius):
        found = prover.by_box(images, tried, labels)
        assert ((found >= tried) | (found == 0)).all()
    inside = prover.by_box(images, (radius // 2), labels)
    assert (inside[radius > 100] >= radius[radius > 100] // 2).all()


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_a_wrong_label_is_never_proved(kind):
    prover, images = prover_of(kind, 1), images_of(1)
    labels = (own_labels(prover, images) + 1) % 3
    proof = prover.by_margin(images, labels)
    assert not proof.radius.any() and (proof.predicted != labels).all()
    assert not prover.by_box(images, torch.zeros(64, dtype=torch.int64), labels).any()


def test_a_hybrids_lead_within_float64_rounding_proves_nothing():
    network = network_of("hybrid", 0)
    with torch.no_grad():
        network.head.second.weight.fill_(1)
        network.head.second.bias.copy_(torch.tensor([1e-14, 0.0, 0.0]))
    prover = ExactProver(quantise(network, GREY, (3, 3, 1), 5))
    labels = torch.zeros(4, dtype=torch.int64)
    assert not prover.by_margin(images_of(0, 4), labels).radius.any()
    assert not prover.by_box(images_of(0, 4), torch.zeros_like(labels), labels).any()


def test_proofs_are_the_same_on_any_number_of_threads_instruction_set_and_batch():
    prover, images = prover_of("distance", 2), images_of(2, 101)
    labels = own_labels(prover, images)
    reach = torch.full_like(labels, 300)

    def proofs(size):
        parts = zip(images.split(size), labels.split(size), reach.split(size), strict=True)
        found = [
            (*prover.by_margin(some, own), prover.by_box(some, far, own))
            for some, own, far in parts
        ]
        return [torch.cat(column) for column in zip(*found, strict=True)]

    wanted = proofs(101)
    threads = torch.get_num_threads()
    for name in available_cpu_kernels():
        for num_threads, size in product((1, 3), (7, 101)):
            torch.set_num_threads(num_threads)
            with cpu_kernels(name):
                for one, other in zip(proofs(size), wanted, strict=True):
                    assert torch.equal(one, other)
    torch.set_num_threads(threads)


def test_the_radius_of_a_whole_cube_is_what_the_float_rule_says():
    prover, images = prover_of("distance", 4), images_of(4)
    labels = own_labels(prover, images)
    radius = prover.by_margin(images, labels).radius
    pixels = torch.tensor([float(radius_of(prover, count)) for count in radius.tolist()])
    for eps in (Fraction(1, 255), Fraction(8, 255), Fraction(1, 10)):
        limit = math.floor(eps * prover.ticks_per_pixel)
        exact = torch.tensor([eps < radius_of(prover, count) for count in radius.tolist()])
        assert torch.equal(exact, radius > limit)
        assert (is_certified(pixels.double(), eps) == exact).float().mean() > 0.9


def test_an_impossible_box_proves_nothing_it_should_not():
    """A box of one point has the margin of that point."""
    prover, images = prover_of("distance", 6), images_of(6)
    labels = own_labels(prover, images)
    points = prover.box_around(images, torch.zeros_like(labels))
    assert isinstance(points, Box) and torch.equal(*points)
    by_box = prover.by_box(images, torch.zeros_like(labels), labels)
    assert torch.equal(by_box, prover.by_margin(images, labels).radius)
