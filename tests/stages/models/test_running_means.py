import math

import pytest
import torch

from stages.models.linf.config import DistanceMLPSettings
from stages.models.linf.network import build_network
from stages.models.linf.running_means import reestimate_running_means


def make_network():
    torch.manual_seed(0)
    settings = DistanceMLPSettings(kind="distance_mlp", width=12, depth=4)
    return build_network(settings, (4, 4, 1), 3)


def make_images(num: int):
    return torch.randn(num, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_means_are_the_exact_ones_layer_after_layer() -> None:
    network, images = make_network(), make_images(100)
    reestimate_running_means(network, lambda: images.split(32))
    x = images.flatten(1).double()
    for layer in network.hidden:
        weight = layer.distance.weight.detach().double()
        distances = (x[:, None] - weight).abs().amax(2)
        mean = distances.mean(0)
        torch.testing.assert_close(layer.centering.running_mean.double(), mean, rtol=0, atol=2e-6)
        x = distances - mean


def test_features_have_mean_zero_in_evaluation_afterwards() -> None:
    network, images = make_network(), make_images(100)
    reestimate_running_means(network, lambda: images.split(100))
    assert not network.training
    assert network.features(images, math.inf).mean(0).abs().max() < 1e-5


def test_two_estimates_are_equal_bit_for_bit() -> None:
    found = []
    for _ in range(2):
        network = make_network()
        reestimate_running_means(network, lambda: make_images(100).split(32))
        found.append([layer.centering.running_mean for layer in network.hidden])
    assert all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def test_no_images_at_all_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one image"):
        reestimate_running_means(make_network(), lambda: ())
