import math

import pytest
import torch

from kernels import SparseRows
from kernels.layers import DistanceLinear, SparseDistance


def layers() -> tuple[DistanceLinear, SparseDistance]:
    """A full layer and the same one in compressed rows."""
    torch.manual_seed(0)
    full = DistanceLinear(7, 5)
    sparse = SparseDistance(7, 5, 35)
    every = torch.ones(5, 7, dtype=torch.bool)
    sparse.set_rows(SparseRows.from_dense(full.weight.detach(), every))
    return full, sparse


@pytest.mark.parametrize("p", [2.0, 8.0, math.inf])
def test_with_every_edge_it_is_the_full_layer(p: float) -> None:
    full, sparse = layers()
    x = torch.randn(20, 7)
    torch.testing.assert_close(sparse(x, p), full(x, p))
    for ours, theirs in zip(sparse.bounds(x - 1, x + 1), full.bounds(x - 1, x + 1), strict=True):
        assert torch.equal(ours, theirs)


def test_weights_learn_and_edges_stay() -> None:
    _, sparse = layers()
    sparse(torch.randn(20, 7), math.inf).sum().backward()
    assert [name for name, _ in sparse.named_parameters()] == ["weight"]
    assert sparse.weight.grad is not None and sparse.weight.grad.abs().sum() > 0


def test_a_new_layer_can_be_evaluated_and_holds_a_state() -> None:
    fresh, (_, sparse) = SparseDistance(7, 5, 35), layers()
    assert fresh(torch.randn(2, 7), math.inf).shape == (2, 5)
    fresh.load_state_dict(sparse.state_dict())
    x = torch.randn(6, 7)
    assert torch.equal(fresh(x, math.inf), sparse(x, math.inf))
    assert "num_edges=35" in repr(fresh)
