import math
from fractions import Fraction

import pytest
import torch
from torch import nn

from stages.models.linf.head_bounds import HeadBounds


@pytest.fixture(autouse=True)
def same_numbers_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def head(seed, features=6, hidden=9, classes=4, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    first, second = nn.Linear(features, hidden), nn.Linear(hidden, classes)
    for parameter in (*first.parameters(), *second.parameters()):
        parameter.data.normal_(0, size, generator=generator)
    return first, second


def worst_in_box(bounds, centre, half_width, labels):
    middle, error = bounds.before_tanh(centre)
    return bounds.worst_difference(middle, bounds.spread(half_width) + error, labels)


def exact_before_tanh(layer, features):
    """The layer in rational arithmetic."""
    return [
        sum(Fraction(w) * Fraction(x) for w, x in zip(row, features, strict=True)) + Fraction(bias)
        for row, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def test_the_bound_of_a_hand_worked_head():
    """Tanh(f) on f in [-1, 1], logits (tanh, 0): class 1 is at most tanh(1) behind class 0."""
    first, second = nn.Linear(1, 1), nn.Linear(1, 2)
    with torch.no_grad():
        first.weight.fill_(1)
        first.bias.fill_(0)
        second.weight.copy_(torch.tensor([[1.0], [0.0]]))
        second.bias.fill_(0)
    bounds = HeadBounds(first, second)
    zero, one = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = worst_in_box(bounds, zero, one, torch.tensor([1])).item()
    assert math.tanh(1) <= found <= math.tanh(1) + 1e-12


@pytest.mark.parametrize("size", [1e-3, 1.0, 10.0])
def test_random_points_of_the_box_stay_below_the_bound(size):
    for seed in range(10):
        bounds = HeadBounds(*head(seed, size=size))
        generator = torch.Generator().manual_seed(seed)
        centre = torch.randn(5, 6, dtype=torch.float64, generator=generator)
        half_width = torch.rand(5, 6, dtype=torch.float64, generator=generator)
        labels = torch.randint(4, (5,), generator=generator)
        worst = worst_in_box(bounds, centre, half_width, labels)
        corners = torch.randint(-1, 2, (500, 5, 6), generator=generator)
        inside = torch.rand(500, 5, 6, dtype=torch.float64, generator=generator) * 2 - 1
        for offset in (corners, inside):
            logits = bounds.logits((centre + offset * half_width).view(-1, 6)).view(500, 5, 4)
            own = logits.gather(2, labels.expand(500, 5)[..., None])
            others = logits.scatter(2, labels.expand(500, 5)[..., None], -math.inf)
            assert ((others - own).amax(2) <= worst).all()


def test_the_first_layer_stays_within_its_rounding_error():
    first, second = head(3, features=50)
    features = torch.randn(1, 50, dtype=torch.float64) * 1e3
    middle, error = HeadBounds(first, second).before_tanh(features)
    exact = exact_before_tanh(first, features[0].tolist())
    for found, allowed, truth in zip(middle[0].tolist(), error[0].tolist(), exact, strict=True):
        assert abs(Fraction(found) - truth) <= Fraction(allowed)
        assert allowed < 1e-9


def test_merged_rows_are_tighter_than_bounding_each_logit():
    first, second = head(1)
    bounds = HeadBounds(first, second)
    centre = torch.randn(8, 6, dtype=torch.float64)
    labels = torch.arange(8) % 4
    merged = worst_in_box(bounds, centre, torch.full((8, 6), 0.2, dtype=torch.float64), labels)
    middle, half = first(centre.float()), 0.2 * first.weight.abs().sum(1)
    lower, upper = (middle - half).tanh(), (middle + half).tanh()
    centre2, spread2 = (lower + upper) / 2, (upper - lower) / 2 @ second.weight.abs().T
    best, least = second(centre2) + spread2, second(centre2) - spread2
    separate = (best - least.gather(1, labels[:, None])).scatter(1, labels[:, None], -math.inf)
    gain = separate.amax(1) - merged
    assert (gain > -1e-5).all()
    assert (gain > 0.1).sum() >= 4


def test_a_cube_may_be_given_by_one_number():
    bounds = HeadBounds(*head(2))
    half_width = torch.rand(3, 1, dtype=torch.float64)
    torch.testing.assert_close(bounds.spread(half_width), bounds.spread(half_width.expand(3, 6)))


def test_evaluation_error_covers_float64_and_is_tiny():
    first, second = head(5, features=200, hidden=100)
    error = HeadBounds(first, second).evaluation_error(50.0)
    assert 2**-53 < error < 1e-7


def test_pieces_of_a_large_batch_agree_with_the_whole(monkeypatch):
    bounds = HeadBounds(*head(4))
    centre = torch.randn(7, 6, dtype=torch.float64)
    half_width, labels = torch.full((7, 1), 0.1, dtype=torch.float64), torch.arange(7) % 4
    whole = worst_in_box(bounds, centre, half_width, labels)
    monkeypatch.setattr("stages.models.linf.head_bounds.MOST_ELEMENTS", 1)
    torch.testing.assert_close(worst_in_box(bounds, centre, half_width, labels), whole)
