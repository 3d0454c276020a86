import math

import pytest

from stages.train.config import Settings
from stages.train.objective import build_objective
from stages.train.radius_ramp import SmoothRadius
from stages.train.schedule import Schedule

STEPS = 10
"""Steps an epoch."""


def schedule_of(settings: Settings) -> Schedule:
    objective = build_objective(settings, (6, 6, 1), 3, 0.1)
    return Schedule(settings, STEPS, objective.rule, objective.loss)


@pytest.fixture
def schedule(tiny) -> Schedule:
    rule = {"rise_epoch": 2, "infinite_epoch": 6}
    mixture = {"kind": "mixture", "cross_entropy_start": 0.1, "cross_entropy_end": 0.001}
    return schedule_of(tiny(schedule={"epochs": 8}, rule=rule, loss=mixture))


def test_p_waits_rises_exponentially_and_becomes_infinite(schedule) -> None:
    assert schedule.at(0).surrogate.p == schedule.at(20).surrogate.p == 8.0
    assert schedule.at(21).surrogate.p > 8.0
    assert schedule.at(40).surrogate.p == pytest.approx(math.sqrt(8.0 * 1000.0))
    ratios = [
        schedule.at(step + 1).surrogate.p / schedule.at(step).surrogate.p for step in range(20, 59)
    ]
    assert ratios == pytest.approx([125 ** (1 / 40)] * 39)
    assert schedule.at(59).surrogate.p == pytest.approx(1000 / 125 ** (1 / 40))
    assert schedule.at(60).surrogate.p == schedule.at(79).surrogate.p == math.inf


def test_p_may_rise_from_the_start_and_never_become_infinite(tiny) -> None:
    rising = {"rise_epoch": 0, "infinite_epoch": 4}
    schedule = schedule_of(tiny(schedule={"epochs": 4}, rule=rising))
    assert schedule.at(0).surrogate.p == 8.0
    assert 800 < schedule.at(39).surrogate.p < 1000


def test_p_may_be_infinite_from_the_start(tiny) -> None:
    infinite = {"rise_epoch": 0, "infinite_epoch": 0}
    schedule = schedule_of(tiny(schedule={"epochs": 4}, rule=infinite))
    assert all(schedule.at(step).surrogate.p == math.inf for step in range(40))


def test_the_cosine_starts_at_the_learning_rate_and_ends_near_zero(schedule) -> None:
    optimiser = schedule.settings.optimiser
    assert schedule.num_steps == 80
    assert schedule.at(0).learning_rate == optimiser.learning_rate
    assert schedule.at(40).learning_rate == pytest.approx(optimiser.learning_rate / 2)
    scale_rate = schedule.settings.loss.scale_learning_rate
    assert schedule.at(40).loss_learning_rate == pytest.approx(scale_rate / 2)
    assert 0 < schedule.at(79).learning_rate < 0.001 * optimiser.learning_rate


def test_the_cosine_may_start_late(tiny) -> None:
    late = {"epochs": 4, "cosine_start_epoch": 2}
    schedule = schedule_of(tiny(schedule=late))
    rates = [schedule.at(step).learning_rate / 0.02 for step in (0, 20, 30)]
    assert rates == pytest.approx([1.0, 1.0, 0.5])


def test_the_cross_entropy_fades_beside_the_rise_of_p(schedule) -> None:
    weights = [schedule.at(step).loss["cross_entropy_weight"] for step in (0, 20, 40, 60, 79)]
    assert weights == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])


def test_other_losses_have_no_cross_entropy_weight(tiny) -> None:
    assert schedule_of(tiny()).at(5).columns == {"p": 8.0}


def test_a_radius_grows_in_a_line(tiny) -> None:
    settings = tiny(loss={"kind": "ibp"}, radius={"kind": "linear", "epochs": 2})
    shares = [schedule_of(settings).at(step).radius_share for step in (0, 5, 20, 25)]
    assert shares == pytest.approx([0.0, 0.25, 1.0, 1.0])


def test_a_smooth_radius_starts_flat_joins_without_a_kink_and_ends_at_one() -> None:
    smooth = SmoothRadius(kind="smooth", epochs=10, quartic_share=0.4)
    a = 1 / (0.4**3 * (4 - 3 * 0.4))
    found = [smooth.share_at(epoch) for epoch in (0, 2, 10, 12)]
    assert found == pytest.approx([0.0, a * 0.2**4, 1.0, 1.0])
    around = [smooth.share_at(epoch) for epoch in (4 - 1e-4, 4, 4 + 1e-4)]
    assert around[2] - around[1] == pytest.approx(around[1] - around[0], rel=1e-3)


def test_a_smooth_radius_may_be_curved_to_its_end() -> None:
    smooth = SmoothRadius(kind="smooth", epochs=1, quartic_share=1.0)
    assert smooth.share_at(0.5) == pytest.approx(0.5**4)
    assert smooth.share_at(1.0) == pytest.approx(1.0)


def test_intervals_count_in_steps_and_never_fall_below_one(schedule) -> None:
    due = [step for step in range(1, 21) if schedule.is_multiple(step, 0.5)]
    assert due == [5, 10, 15, 20]
    assert all(schedule.is_multiple(step, 0.001) for step in range(1, 5))
