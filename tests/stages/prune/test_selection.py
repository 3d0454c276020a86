import pytest
import torch

from stages.prune.selection import EmptyLayer, keep_share, keep_used, sparsity_of

COUNTS = [
    torch.tensor([[5, 0, 3], [2, 2, 2]]),
    torch.tensor([[9, 9], [0, 7]]),
]


def test_a_count_keeps_the_edges_that_reach_it() -> None:
    keep = keep_used(COUNTS, 3)
    assert keep[0].tolist() == [[True, False, True], [False, False, False]]
    assert keep[1].tolist() == [[True, True], [False, True]]
    assert sparsity_of(keep) == 0.5


def test_a_share_of_the_network_drops_the_least_used_and_of_equals_the_later_ones() -> None:
    keep = keep_share(COUNTS, 0.4, "network")
    assert keep[0].tolist() == [[True, False, True], [True, False, False]]
    assert keep[1].tolist() == [[True, True], [False, True]]


def test_a_share_of_each_layer_thins_all_of_them() -> None:
    keep = keep_share(COUNTS, 0.5, "layer")
    assert [int(layer.sum()) for layer in keep] == [3, 2]
    assert keep[1].tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.3, 0.55])
def test_a_share_is_met_exactly(sparsity) -> None:
    counts = [torch.randint(0, 3, (20, 30)), torch.randint(0, 3, (10, 20))]
    keep = keep_share(counts, sparsity, "network")
    assert sum(int(layer.sum()) for layer in keep) == round((1 - sparsity) * 800)


def test_a_share_that_would_empty_a_layer_is_refused() -> None:
    counts = [torch.full((4, 5), 100), torch.ones(3, 4, dtype=torch.int64)]
    with pytest.raises(EmptyLayer, match=r"sparsity 0.9 leaves layer 1 of 2 .* scope: layer"):
        keep_share(counts, 0.9, "network")
    with pytest.raises(EmptyLayer, match=r"sparsity 0.99 leaves layer 0 of 2 without edges \(20"):
        keep_share(counts, 0.99, "layer")


def test_a_count_that_would_empty_a_layer_is_refused() -> None:
    with pytest.raises(EmptyLayer, match=r"min_count 6 leaves layer 0 .* decides for 5 images"):
        keep_used(COUNTS, 6)
