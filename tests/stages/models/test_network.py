import math

import pytest
import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.network import LinfNetwork, build_network

IMAGE_SHAPE = (5, 4, 2)
NUM_CLASSES = 3
MLP = DistanceMLPSettings(kind="distance_mlp", width=16, depth=3)
HYBRID = HybridSettings(kind="hybrid", width=16, depth=2, hidden=8)
BOTH = pytest.mark.parametrize("settings", [MLP, HYBRID], ids=["distance_mlp", "hybrid"])


def make(settings: DistanceMLPSettings | HybridSettings, seed: int = 0) -> LinfNetwork:
    """A network in evaluation mode whose running means have seen some images."""
    torch.manual_seed(seed)
    network = build_network(settings, IMAGE_SHAPE, NUM_CLASSES)
    for _ in range(5):
        network(images(64, seed=1), math.inf)
    return network.eval()


def images(num: int, seed: int) -> Tensor:
    return torch.randn(num, 2, 5, 4, generator=torch.Generator().manual_seed(seed))


def labels(num: int) -> Tensor:
    return torch.arange(num) % NUM_CLASSES


def shifts(num: int, eps: float, seed: int) -> Tensor:
    """Random points of the ball, half of them corners."""
    noise = 2 * torch.rand(num, 2, 5, 4, generator=torch.Generator().manual_seed(seed)) - 1
    noise[::2] = noise[::2].sign()
    return eps * noise


@BOTH
@torch.no_grad()
def test_bounds_contain_the_logits_of_every_point_in_the_box(settings) -> None:
    network, x, eps = make(settings), images(8, seed=2), 0.2
    lower, upper = network.bounds(Box(x - eps, x + eps))
    for seed in range(50):
        logits = network(x + shifts(8, eps, seed), math.inf)
        assert (logits >= lower - 1e-5).all()
        assert (logits <= upper + 1e-5).all()


@BOTH
@torch.no_grad()
def test_worst_case_holds_for_every_point_in_the_ball(settings) -> None:
    network, x, y, eps = make(settings), images(9, seed=3), labels(9), 0.2
    logits, worst = network.worst_case(x, y, math.inf, eps)
    in_box = network.worst_case_in_box(Box(x - eps, x + eps), y)
    torch.testing.assert_close(logits, network(x, math.inf))
    for seed in range(50):
        moved = network(x + shifts(9, eps, seed), math.inf)
        differences = moved - moved.gather(1, y[:, None])
        assert (differences <= worst + 1e-5).all()
        assert (differences <= in_box + 1e-5).all()


@BOTH
@torch.no_grad()
def test_worst_case_is_zero_for_the_true_class(settings) -> None:
    network, x, y = make(settings), images(9, seed=3), labels(9)
    own = y[:, None]
    assert (network.worst_case(x, y, 8.0, 0.1).worst.gather(1, own) == 0).all()
    assert (network.worst_case_in_box(Box(x, x), y).gather(1, own) == 0).all()


@BOTH
@torch.no_grad()
def test_at_radius_zero_the_worst_case_is_the_logits_themselves(settings) -> None:
    network, x, y = make(settings), images(9, seed=3), labels(9)
    logits, worst = network.worst_case(x, y, 8.0, 0.0)
    torch.testing.assert_close(worst, logits - logits.gather(1, y[:, None]))


@torch.no_grad()
def test_merged_rows_bound_a_hybrid_tighter_than_its_logit_box() -> None:
    network, x, y = make(HYBRID), images(9, seed=3), labels(9)
    lower, upper = network.bounds(Box(x - 0.2, x + 0.2))
    from_logits = (upper - lower.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    merged = network.worst_case_in_box(Box(x - 0.2, x + 0.2), y)
    assert (merged <= from_logits + 1e-5).all()
    assert merged.sum() < 0.9 * from_logits.sum()


@torch.no_grad()
def test_a_distance_network_is_1_lipschitz_at_infinity() -> None:
    network, x = make(MLP), images(64, seed=4)
    for scale in (1e-3, 0.1, 3.0):
        moved = x + shifts(64, scale, seed=5)
        change = (network(moved, math.inf) - network(x, math.inf)).abs().amax(1)
        assert (change <= (moved - x).abs().amax((1, 2, 3)) + 1e-5).all()


@pytest.mark.parametrize("p", [2.0, 8.0, 100.0])
@torch.no_grad()
def test_at_finite_p_the_lipschitz_constant_is_the_product_of_fan_in_to_one_over_p(p) -> None:
    # A layer is 1-Lipschitz from l_p, and l_p is at most fan_in^(1/p) times l_inf.
    network, x = make(MLP), images(64, seed=4)
    constant = (40 * 16 * 16) ** (1 / p)
    moved = x + shifts(64, 0.5, seed=6)
    change = (network(moved, p) - network(x, p)).abs().amax(1)
    assert (change <= constant * (moved - x).abs().amax((1, 2, 3)) + 1e-4).all()


@BOTH
def test_bounds_are_refused_in_training_mode(settings) -> None:
    network, x = make(settings).train(), images(4, seed=2)
    with pytest.raises(RuntimeError, match=r"evaluation mode"):
        network.bounds(Box(x, x))
    with pytest.raises(RuntimeError, match=r"evaluation mode"):
        network.worst_case_in_box(Box(x, x), labels(4))


def test_depth_counts_the_layer_that_gives_the_logits() -> None:
    for depth in (1, 2, 4):
        settings = DistanceMLPSettings(kind="distance_mlp", width=16, depth=depth)
        network = build_network(settings, IMAGE_SHAPE, NUM_CLASSES)
        assert len(network.hidden) == depth - 1
        assert network(images(2, seed=0), 8.0).shape == (2, NUM_CLASSES)


def test_a_network_starts_by_passing_its_inputs_on() -> None:
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=80, depth=2), IMAGE_SHAPE, NUM_CLASSES
    ).eval()
    x = images(4, seed=7).clamp(-1, 1)
    features = network.features(x, math.inf)
    torch.testing.assert_close(features, torch.cat([x.flatten(1) + 10] * 2, 1))


def test_the_seed_decides_the_weights() -> None:
    first, same, other = make(MLP, 0), make(MLP, 0), make(MLP, 1)
    assert all(torch.equal(first.state_dict()[k], v) for k, v in same.state_dict().items())
    assert not torch.equal(first.hidden[0].distance.weight, other.hidden[0].distance.weight)
