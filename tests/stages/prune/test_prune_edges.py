import math

import pytest
import torch

from stages.models.linf.config import DistanceMLPSettings
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.pruning import EmptyLayer

SHAPE = (2, 3, 1)
MLP = DistanceMLPSettings(kind="distance_mlp", width=8, depth=3)


def random_network(seed: int = 0) -> LinfNetwork:
    torch.manual_seed(seed)
    network = build_network(MLP, SHAPE, 3)
    network(torch.randn(60, 1, 2, 3), math.inf)
    return network.eval()


def all_edges(network: LinfNetwork) -> list[torch.Tensor]:
    return [torch.ones_like(layer.weight, dtype=torch.bool) for layer in network.distances]


@torch.no_grad()
def masked(network: LinfNetwork, keep: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The pruned network by its definition: a maximum over kept edges; centred constants are 0."""
    x = x.flatten(1)
    is_constant = torch.zeros(x.shape[1], dtype=torch.bool)
    for number, layer in enumerate(network.distances):
        size = torch.where(keep[number], (x[:, None] - layer.weight).abs(), 0.0).amax(2)
        if number == len(network.hidden):
            return -(size + network.head.bias)
        is_constant = ~(keep[number] & ~is_constant).any(1)
        centred = size - network.hidden[number].centering.running_mean
        x = torch.where(is_constant, 0.0, centred)
    raise AssertionError


@torch.no_grad()
def test_with_every_edge_kept_nothing_changes(tools) -> None:
    network, x = random_network(), torch.randn(20, 1, 2, 3)
    pruned = tools.pruner_of(network, MLP).prune(SHAPE, all_edges(network))
    assert torch.equal(pruned.network(x, math.inf), network(x, math.inf))
    assert pruned.settings.widths == (8, 8, 3)
    assert all(cut.num_constant == cut.num_unused == 0 for cut in pruned.cuts)


@torch.no_grad()
@pytest.mark.parametrize("seed", range(8))
def test_folding_and_removing_change_no_logit(seed, tools) -> None:
    network, x = random_network(seed), 4 * torch.randn(50, 1, 2, 3)
    keep = [torch.rand_like(mask.float()) < 0.35 for mask in all_edges(network)]
    keep[0][:2] = False  # constants
    keep[1][5] = True
    keep[2][:, 5] = False  # nothing depends on it
    keep[2][:, 6] = True
    keep[1][6, 3] = keep[0][3, 0] = True
    pruned = tools.pruner_of(network, MLP).prune(SHAPE, keep)
    assert torch.equal(pruned.network(x, math.inf), masked(network, keep, x))
    assert pruned.cuts[0].num_constant >= 2
    assert pruned.cuts[1].num_unused >= 1
    assert sum(pruned.settings.num_edges) < sum(int(mask.sum()) for mask in keep)


@torch.no_grad()
def test_a_neuron_fed_by_constants_alone_is_a_constant_too(tools) -> None:
    network, x = random_network(), torch.randn(9, 1, 2, 3)
    keep = all_edges(network)
    keep[0][3] = False
    keep[1][:] = False
    keep[1][2, 3] = True  # sees nothing but the constant
    keep[1][4, 0] = True
    pruned = tools.pruner_of(network, MLP).prune(SHAPE, keep)
    assert [cut.num_constant for cut in pruned.cuts] == [1, 7, 0]
    assert pruned.settings.widths == (1, 1, 3)
    assert torch.equal(pruned.network(x, math.inf), masked(network, keep, x))


def test_removed_neurons_take_their_rows_with_them(tools) -> None:
    network = random_network()
    keep = all_edges(network)
    keep[2][:, 1:] = False
    keep[1][0, 2:] = False
    pruned = tools.pruner_of(network, MLP).prune(SHAPE, keep)
    assert pruned.settings.widths == (2, 1, 3)
    assert pruned.settings.num_edges == (12, 2, 3)
    assert [cut.num_unused for cut in pruned.cuts] == [6, 7, 0]


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_network_that_looks_at_no_pixel_is_refused(layer, tools) -> None:
    network = random_network()
    keep = all_edges(network)
    keep[layer][:] = False
    with pytest.raises(EmptyLayer, match=r"depends on no pixel, or nothing depends on it"):
        tools.pruner_of(network, MLP).prune(SHAPE, keep)
