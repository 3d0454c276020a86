import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
import torch

from pipeline.errors import UserError
from stages.certify.attack import Attack, Try, tries
from stages.certify.config import AttackSettings
from stages.certify.square_attack import search_squares
from stages.data.batches import Batch
from stages.models.linf.certifier import Ball, ExactCertifier, FloatCertifier
from stages.models.linf.config import ExactSettings, FloatSettings
from stages.models.linf.quantise import quantise
from stages.models.network_file import LoadedNetwork

EPS = Fraction(1, 10)
BALL = Ball(EPS, tuple(EPS * step / 8 for step in range(17)))
FRACTION_BITS = 3


class Witness:
    """Passes every question on to an attack space and keeps the points that were judged."""

    def __init__(self, attack_space):
        self.attack_space, self.seen = attack_space, []

    def __getattr__(self, name):
        return getattr(self.attack_space, name)

    def margins(self, points, labels):
        self.seen.append(points.clone())
        return self.attack_space.margins(points, labels)


@dataclass(frozen=True)
class Subject:
    """A network, and the attack_space it is attacked in."""

    loaded: LoadedNetwork
    method: str
    tools: Any

    def certifier(self):
        if self.method == "float":
            return FloatCertifier(self.loaded, FloatSettings(), BALL)
        loaded = self.loaded
        network = quantise(loaded.network, loaded.normalisation, loaded.image_shape, FRACTION_BITS)
        return ExactCertifier(network, ExactSettings(), BALL)

    def attack(self, seed=0, **settings):
        chosen = AttackSettings(**({"steps": 6, "restarts": 1, "square_queries": 0} | settings))
        return Attack(Witness(self.certifier().attack_space), chosen, seed)

    def batch(self, num_images=60, seed=2):
        images, labels = self.tools.images_near_prototypes(num_images, seed)
        return Batch(torch.arange(num_images), images, labels)

    def findings(self, batch):
        return self.certifier().certify(batch.images, batch.labels)

    def pixel(self, coordinate):
        """A coordinate of a point as an exact pixel in [0, 1]."""
        if self.method == "exact":
            return Fraction(coordinate, 255 << FRACTION_BITS)
        normalisation = self.loaded.normalisation
        return Fraction(coordinate) * Fraction(normalisation.std) + Fraction(normalisation.mean[0])


@pytest.fixture(params=["distance", "hybrid"])
def kind(request):
    return request.param


@pytest.fixture(params=["exact", "float"])
def subject(request, kind, tools):
    return Subject(tools.loaded_network(kind), request.param, tools)


def some_of(batch, rows):
    return Batch(batch.indices[rows], batch.images[rows], batch.labels[rows])


def nothing(batch):
    return torch.zeros(len(batch), dtype=torch.bool)


def all_inside(subject, batch, seen):
    values = batch.images.flatten(1).tolist()
    for points in seen:
        for row, image in zip(points.flatten(1).tolist(), values, strict=True):
            for coordinate, value in zip(row, image, strict=True):
                pixel = subject.pixel(coordinate)
                assert 0 <= pixel <= 1
                assert abs(pixel - Fraction(value, 255)) <= EPS


def test_every_point_judged_is_inside_the_ball_exactly(subject):
    attack = subject.attack(restarts=2, square_queries=5)
    batch = some_of(subject.batch(), [0])
    attack.attack(batch, ~nothing(batch), nothing(batch))
    assert attack.attack_space.seen
    all_inside(subject, batch, attack.attack_space.seen)


def test_it_breaks_images_that_are_right_but_not_certified(subject):
    attack, batch = subject.attack(), subject.batch(200)
    findings = subject.findings(batch)
    is_right = findings.margin > 0
    is_proved = torch.tensor([radius > EPS for radius in findings.radius])
    is_broken = attack.attack(batch, is_right, nothing(batch)).worst <= 0
    assert is_broken.sum() > 0.5 * (is_right & ~is_proved).sum() > 5
    assert not (is_broken & is_proved).any()


def test_the_whole_attack_is_stronger_than_its_first_try(subject):
    batch = subject.batch(200)
    is_right = subject.findings(batch).margin > 0
    verdict = subject.attack(square_queries=5).attack(batch, is_right, nothing(batch))
    assert (verdict.worst <= verdict.after_baseline).all()
    broken = [int((margins <= 0).sum()) for margins in (verdict.after_baseline, verdict.worst)]
    assert broken[0] < broken[1]
    plain = Try(0, "ce", math.inf)
    alone = subject.attack()._descend(batch, plain, 6)
    assert torch.equal(alone[is_right], verdict.after_baseline[is_right])


def test_a_broken_image_has_a_point_in_its_ball_that_is_wrong(subject):
    batch = subject.batch()
    is_right = subject.findings(batch).margin > 0
    worst = subject.attack().attack(batch, is_right, nothing(batch)).worst
    alone = some_of(batch, (worst <= 0).nonzero()[0])
    again = subject.attack()
    again.attack(alone, ~nothing(alone), nothing(alone))
    inputs = again.attack_space.inputs(again.attack_space.seen[-1])
    assert subject.loaded.network(inputs, math.inf).argmax(1).item() != alone.labels.item()


def test_wrong_images_are_left_alone(subject):
    attack, batch = subject.attack(square_queries=5), subject.batch()
    verdict = attack.attack(batch, nothing(batch), nothing(batch))
    assert verdict.worst.isinf().all()
    assert not attack.attack_space.seen


def test_certified_images_get_the_steps_that_the_settings_say(subject):
    batch = subject.batch()
    radius = subject.findings(batch).radius
    batch = some_of(batch, [next(row for row, found in enumerate(radius) if found > EPS)])
    for certified_steps in (1, 3):
        attack = subject.attack(certified_steps=certified_steps, square_queries=5)
        attack.attack(batch, ~nothing(batch), ~nothing(batch))
        assert len(attack.attack_space.seen) == certified_steps


def test_an_image_is_attacked_alike_in_any_batch(subject):
    batch = subject.batch()
    is_right = subject.findings(batch).margin > 0
    settings = {"restarts": 2, "steps": 3, "square_queries": 5}
    whole = subject.attack(**settings).attack(batch, is_right, nothing(batch)).worst
    for rows in (torch.arange(10, 20), torch.arange(59, -1, -3)):
        part = some_of(batch, rows)
        found = subject.attack(**settings).attack(part, is_right[rows], nothing(part)).worst
        torch.testing.assert_close(found, whole[rows], rtol=0, atol=0)


def test_random_starts_depend_on_the_seed_and_the_restart(subject):
    batch = some_of(subject.batch(), [0, 1])

    def start(seed, restart):
        attack = subject.attack(seed)
        return attack._start(batch, attack.attack_space.ball(batch.images), restart)

    torch.testing.assert_close(start(0, 1), start(0, 1), rtol=0, atol=0)
    assert (start(0, 1) != start(0, 2)).any()
    assert (start(0, 1) != start(1, 1)).any()
    assert (start(0, 1)[0] != start(0, 1)[1]).any()


def test_squares_stay_at_the_ends_of_the_ball_and_only_get_better(subject):
    batch = subject.batch()
    rows = (subject.findings(batch).margin > 0).nonzero()[:, 0]
    batch = some_of(batch, rows)
    attack_space = Witness(subject.certifier().attack_space)
    worst = [search_squares(attack_space, batch, queries, 0) for queries in (1, 40)]
    lower, upper = attack_space.ball(batch.images)
    for points in attack_space.seen:
        assert ((points == lower) | (points == upper)).all()
    assert (worst[1] < worst[0]).sum() > len(batch) // 2
    assert search_squares(attack_space, batch, 0, 0).isinf().all()


def test_every_loss_and_surrogate_is_tried_before_the_next_restart(subject):
    settings = AttackSettings(surrogates=(8, "inf"), losses=("ce",), restarts=2)
    inf = math.inf
    assert tries(subject.certifier().attack_space, settings) == [
        Try(restart, "ce", p) for restart, p in ((0, 8.0), (0, inf), (1, 8.0), (1, inf))
    ]


def test_a_surrogate_that_the_network_does_not_have_is_refused(subject):
    with pytest.raises(UserError, match=r"none called 1; usual are 128, 32, 8, inf"):
        subject.attack(surrogates=(1,))
