import math

import pytest
import torch

from pipeline.ranks import Ranks
from stages.train.engine import Engine
from stages.train.objective import build_objective
from stages.train.schedule import Schedule
from stages.train.weight_decay import lp_decay_

WEIGHT = torch.tensor([[3.0, -4.0, 0.5], [-0.1, 0.2, 0.1]], dtype=torch.float64)


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


HYBRID = {"kind": "hybrid", "width": 8, "depth": 2, "hidden": 4}


def decayed(settings):
    """Weights before and after the decay of a first step, whose learning rate is 0.02."""
    objective = build_objective(settings, (6, 6, 1), 3, 0.1)
    before = {name: tensor.clone() for name, tensor in objective.network.named_parameters()}
    engine = Engine(objective, settings.optimiser, settings.distributed, Ranks())
    values = Schedule(settings, 10, objective.rule, objective.loss).at(0)
    assert (values.surrogate.p, values.learning_rate) == (8.0, 0.02)
    engine._decay_weights(values)
    return before, dict(objective.network.named_parameters())


def test_distance_layers_decay_at_p_and_everything_else_ordinarily(tiny) -> None:
    settings = tiny(network=HYBRID, loss={"kind": "ibp"}, optimiser={"decay": 5.0})
    before, after = decayed(settings)
    for name, tensor in after.items():
        is_distance = name.startswith("hidden.")
        expected = by_formula(before[name], 8.0, 0.1) if is_distance else 0.9 * before[name]
        torch.testing.assert_close(tensor, expected)


def test_the_last_distances_decay_at_p_and_the_bias_ordinarily(tiny) -> None:
    before, after = decayed(tiny(optimiser={"decay": 5.0}))
    name = "head.distance.weight"
    torch.testing.assert_close(after[name], by_formula(before[name], 8.0, 0.1))
    torch.testing.assert_close(after["head.bias"], 0.9 * before["head.bias"])


def test_no_decay_changes_nothing(tiny) -> None:
    before, after = decayed(tiny(optimiser={"decay": 0.0}))
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
