from fractions import Fraction
from functools import partial

import pytest
import torch

from stages.data.batches import in_order
from stages.data.in_memory import ImageSet
from stages.models.certifier import Certificates
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.family import FAMILY
from stages.models.linf.network import build_network
from stages.models.validation import Counts, as_certified, count, evaluate

NORMALISATION = Normalisation((0.5,), 0.25)
MLP = DistanceMLPSettings(kind="distance_mlp", width=16, depth=3)
HYBRID = HybridSettings(kind="hybrid", width=16, depth=2, hidden=8)
BOTH = pytest.mark.parametrize("settings", [MLP, HYBRID], ids=["distance_mlp", "hybrid"])


def images(num: int) -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (num, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return ImageSet("validation", pixels, torch.arange(num) % 3)


def make_network(settings):
    torch.manual_seed(0)
    return build_network(settings, (6, 6, 1), 3).train()


@BOTH
def test_validation_leaves_no_trace_in_the_network(settings) -> None:
    network = make_network(settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    source = partial(in_order, images(40), 16)
    with as_certified(FAMILY, network, NORMALISATION, source):
        assert not network.training
        assert not torch.equal(
            network.hidden[0].centering.running_mean,
            before["hidden.0.centering.running_mean"],
        )
        evaluate(FAMILY, network, NORMALISATION, source, Fraction(1, 20))
    assert network.training
    assert all(module.training for module in network.modules())
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_an_error_inside_leaves_no_trace_either() -> None:
    network = make_network(MLP)
    before = network.hidden[0].centering.running_mean.clone()
    with (
        pytest.raises(KeyboardInterrupt),
        as_certified(FAMILY, network, NORMALISATION, partial(in_order, images(8), 8)),
    ):
        raise KeyboardInterrupt
    assert torch.equal(network.hidden[0].centering.running_mean, before)
    assert network.training


@BOTH
def test_counts_are_those_of_one_image_at_a_time(settings) -> None:
    network, data = make_network(settings), images(40)
    whole, single = partial(in_order, data, 40), partial(in_order, data, 1)
    with as_certified(FAMILY, network, NORMALISATION, whole):
        for eps in (Fraction(0), Fraction(1, 2000), Fraction(1, 2)):
            counts = evaluate(FAMILY, network, NORMALISATION, whole, eps)
            assert counts == evaluate(FAMILY, network, NORMALISATION, single, eps)
            assert counts.num_images == 40
            assert counts.num_certified <= counts.num_correct
        assert counts.num_certified == 0
        assert counts.clean_accuracy == counts.num_correct / 40


class Radii:
    """Every image is right and has the radius that was given for it."""

    def __init__(self, radius):
        self.radius = radius

    def certify(self, images, labels):
        margin = torch.ones(len(labels), dtype=torch.float64)
        num = len(labels)
        return Certificates(labels, margin, self.radius, ["margin"] * num, [False] * num)


def test_a_radius_of_just_eps_is_not_counted_as_certified() -> None:
    eps, labels = Fraction(1, 10), torch.tensor([0, 1, 2])
    radius = [eps - Fraction(1, 10**30), eps, eps + Fraction(1, 10**30)]
    batches = [(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), labels)]
    assert count(Radii(radius), batches, eps) == Counts(3, 3, 1)
