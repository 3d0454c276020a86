import math

import pytest
import torch

from stages.models.linf.lp_weight_decay import decay_, lp_decay_
from stages.models.linf.network import build_network
from stages.train.zero_state import ReplicatedState

WEIGHT = torch.tensor([[3.0, -4.0, 0.5], [-0.1, 0.2, 0.1]], dtype=torch.float64)


def whole() -> ReplicatedState:
    return ReplicatedState(torch.optim.SGD([torch.zeros(1)]))


def by_formula(weight: torch.Tensor, p: float, amount: float) -> torch.Tensor:
    norm = (weight.abs() ** p).sum(1, keepdim=True) ** (1 / p)
    return weight - amount * (weight.abs() / norm) ** (p - 2) * weight


@pytest.mark.parametrize("p", [2.0, 3.0, 8.0, 37.5, 150.0])
def test_decay_follows_the_formula(p) -> None:
    weight = WEIGHT.clone()
    lp_decay_(weight, p, 0.1)
    torch.testing.assert_close(weight, by_formula(WEIGHT, p, 0.1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("p", [8.0, 100.0, 1000.0])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_decay_neither_overflows_nor_depends_on_the_scale_of_a_row(p, size) -> None:
    weight = (WEIGHT * size).float()
    lp_decay_(weight, p, 0.1)
    expected = WEIGHT.clone()
    lp_decay_(expected, p, 0.1)
    torch.testing.assert_close(weight.double() / size, expected, rtol=1e-5, atol=1e-5)


def test_p_2_is_ordinary_decay() -> None:
    weight = WEIGHT.clone()
    lp_decay_(weight, 2.0, 0.1)
    torch.testing.assert_close(weight, 0.9 * WEIGHT)


def test_at_infinity_the_first_of_the_largest_entries_shrinks() -> None:
    weight = torch.tensor([[3.0, -4.0, 4.0], [0.0, 0.0, 0.0]])
    lp_decay_(weight, math.inf, 0.5)
    assert weight.tolist() == [[3.0, -2.0, 4.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("p", [2.0, 8.0, 1000.0])
def test_a_row_of_zeros_stays(p) -> None:
    weight = torch.zeros(2, 3)
    lp_decay_(weight, p, 0.1)
    assert (weight == 0).all()


def test_distance_layers_decay_at_p_and_everything_else_ordinarily(tiny) -> None:
    network = tiny(
        network={"kind": "hybrid", "width": 8, "depth": 2, "hidden": 4}, loss={"kind": "ibp"}
    ).network
    model = build_network(network, (6, 6, 1), 3).double()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    decay_(model, 8.0, 0.1, whole())
    for name, tensor in model.named_parameters():
        is_distance = name.startswith("hidden.")
        expected = by_formula(before[name], 8.0, 0.1) if is_distance else 0.9 * before[name]
        torch.testing.assert_close(tensor, expected)


def test_no_decay_changes_nothing(tiny) -> None:
    model = build_network(tiny().network, (6, 6, 1), 3)
    before = [tensor.clone() for tensor in model.parameters()]
    decay_(model, 8.0, 0.0, whole())
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
