import math

import pytest

from stages.train.config import SmoothRadius
from stages.train.schedule import Schedule, radius_share_at

STEPS = 10
"""Steps an epoch."""


@pytest.fixture
def schedule(tiny) -> Schedule:
    epochs = {"epochs": 8, "p_rise_epoch": 2, "p_infinite_epoch": 6}
    mixture = {"kind": "mixture", "cross_entropy_start": 0.1, "cross_entropy_end": 0.001}
    return Schedule(tiny(schedule=epochs, loss=mixture), STEPS)


def test_p_waits_rises_exponentially_and_becomes_infinite(schedule) -> None:
    assert schedule.at(0).p == schedule.at(20).p == 8.0
    assert schedule.at(21).p > 8.0
    assert schedule.at(40).p == pytest.approx(math.sqrt(8.0 * 1000.0))
    ratios = [schedule.at(step + 1).p / schedule.at(step).p for step in range(20, 59)]
    assert ratios == pytest.approx([125 ** (1 / 40)] * 39)
    assert schedule.at(59).p == pytest.approx(1000 / 125 ** (1 / 40))
    assert schedule.at(60).p == schedule.at(79).p == math.inf


def test_p_may_rise_from_the_start_and_never_become_infinite(tiny) -> None:
    rising = {"epochs": 4, "p_rise_epoch": 0, "p_infinite_epoch": 4}
    schedule = Schedule(tiny(schedule=rising), STEPS)
    assert schedule.at(0).p == 8.0
    assert 800 < schedule.at(39).p < 1000


def test_p_may_be_infinite_from_the_start(tiny) -> None:
    infinite = {"epochs": 4, "p_rise_epoch": 0, "p_infinite_epoch": 0}
    schedule = Schedule(tiny(schedule=infinite), STEPS)
    assert all(schedule.at(step).p == math.inf for step in range(40))


def test_the_cosine_starts_at_the_learning_rate_and_ends_near_zero(schedule) -> None:
    optimiser = schedule.settings.optimiser
    assert schedule.num_steps == 80
    assert schedule.at(0).learning_rate == optimiser.learning_rate
    assert schedule.at(40).learning_rate == pytest.approx(optimiser.learning_rate / 2)
    assert schedule.at(40).scale_learning_rate == pytest.approx(optimiser.scale_learning_rate / 2)
    assert 0 < schedule.at(79).learning_rate < 0.001 * optimiser.learning_rate


def test_the_cosine_may_start_late(tiny) -> None:
    late = {"epochs": 4, "p_rise_epoch": 2, "p_infinite_epoch": 3, "cosine_start_epoch": 2}
    schedule = Schedule(tiny(schedule=late), STEPS)
    rates = [schedule.at(step).learning_rate / 0.02 for step in (0, 20, 30)]
    assert rates == pytest.approx([1.0, 1.0, 0.5])


def test_the_cross_entropy_fades_beside_the_rise_of_p(schedule) -> None:
    weights = [schedule.at(step).cross_entropy_weight for step in (0, 20, 40, 60, 79)]
    assert weights == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_other_losses_have_no_cross_entropy_weight(tiny) -> None:
    assert Schedule(tiny(), STEPS).at(5).cross_entropy_weight == 0.0


def test_a_radius_grows_in_a_line(tiny) -> None:
    settings = tiny(loss={"kind": "ibp"}, radius={"kind": "linear", "epochs": 2})
    shares = [Schedule(settings, STEPS).at(step).radius_share for step in (0, 5, 20, 25)]
    assert shares == pytest.approx([0.0, 0.25, 1.0, 1.0])


def test_a_smooth_radius_starts_flat_joins_without_a_kink_and_ends_at_one() -> None:
    smooth = SmoothRadius(kind="smooth", epochs=10, quartic_share=0.4)
    a = 1 / (0.4**3 * (4 - 3 * 0.4))
    found = [radius_share_at(epoch, smooth) for epoch in (0, 2, 10, 12)]
    assert found == pytest.approx([0.0, a * 0.2**4, 1.0, 1.0])
    around = [radius_share_at(epoch, smooth) for epoch in (4 - 1e-4, 4, 4 + 1e-4)]
    assert around[2] - around[1] == pytest.approx(around[1] - around[0], rel=1e-3)


def test_a_smooth_radius_may_be_curved_to_its_end() -> None:
    smooth = SmoothRadius(kind="smooth", epochs=1, quartic_share=1.0)
    assert radius_share_at(0.5, smooth) == pytest.approx(0.5**4)
    assert radius_share_at(1.0, smooth) == pytest.approx(1.0)


def test_intervals_count_in_steps_and_never_fall_below_one(schedule) -> None:
    due = [step for step in range(1, 21) if schedule.is_multiple(step, 0.5)]
    assert due == [5, 10, 15, 20]
    assert all(schedule.is_multiple(step, 0.001) for step in range(1, 5))
