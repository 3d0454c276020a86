import math

import torch

from kernels.layers import Box
from stages.models.images import Normalisation
from stages.models.linf.config import (
    DenseSettings,
    DistanceHeadSettings,
    DistanceMLPSettings,
    LayersSettings,
)
from stages.models.linf.network import build_network
from stages.models.linf.quantise import quantise

SHAPE = (4, 4, 1)
MLP = DistanceMLPSettings(kind="distance_mlp", width=8, depth=3)
LAYERS = LayersSettings(
    kind="layers",
    hidden=(DenseSettings(num_outputs=8), DenseSettings(num_outputs=8)),
    head=DistanceHeadSettings(layer=DenseSettings(num_outputs=3)),
)


def build(settings):
    torch.manual_seed(0)
    network = build_network(settings, SHAPE, 3)
    network(torch.randn(16, 1, 4, 4), 8.0)
    return network.eval()


def test_layer_by_layer_is_the_same_network_as_by_width_and_depth() -> None:
    ours, theirs = build(LAYERS), build(MLP)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    images = torch.randn(5, 1, 4, 4)
    assert torch.equal(ours(images, math.inf), theirs(images, math.inf))
    box = Box(images - 0.1, images + 0.1)
    for mine, other in zip(ours.bounds(box), theirs.bounds(box), strict=True):
        assert torch.equal(mine, other)


def test_both_are_rounded_to_the_same_integers() -> None:
    normalisation = Normalisation((0.5,), 0.25)
    ours, theirs = (quantise(build(kind), normalisation, SHAPE, 4) for kind in (LAYERS, MLP))
    assert len(ours.layers) == len(theirs.layers) == 3
    for mine, other in zip(ours.layers, theirs.layers, strict=True):
        assert torch.equal(mine.weights.weight, other.weights.weight)
        assert torch.equal(mine.offset, other.offset)
