import math
from fractions import Fraction

import pytest
import torch

from stages.certify.attack import Attack, Try, tries
from stages.certify.ball import InnerBall
from stages.certify.config import AttackSettings
from stages.data.batches import Batch
from stages.models.provers import Prover, prover_for

EPS = Fraction(1, 10)


class Witness(Prover):
    """Passes every question on to a prover and keeps the inputs that were asked about."""

    def __init__(self, prover):
        self.prover, self.seen = prover, []

    def logits(self, inputs):
        self.seen.append(inputs.clone())
        return self.prover.logits(inputs)

    def by_margin(self, inputs, labels):
        return self.prover.by_margin(inputs, labels)

    def proves_box(self, box, labels):
        return self.prover.proves_box(box, labels)


def attack_on(network, tools, seed=0, **settings):
    prover = Witness(prover_for(network, tools.normalisation))
    ball = InnerBall(EPS, tools.normalisation, torch.device("cpu"))
    chosen = AttackSettings(**({"steps": 6} | settings))
    return Attack(network, prover, tools.normalisation, ball, chosen, seed)


def batch_of(tools, num_images=60, seed=2):
    images, labels = tools.images_near_prototypes(num_images, seed)
    return Batch(torch.arange(num_images), images, labels)


def some_of(batch, rows):
    return Batch(batch.indices[rows], batch.images[rows], batch.labels[rows])


def right(network, tools, batch):
    logits = network(tools.normalisation.apply(batch.images), math.inf)
    return logits.argmax(1) == batch.labels


@pytest.fixture(params=["distance", "hybrid"])
def network(request, tools):
    built = tools.distance_network() if request.param == "distance" else tools.hybrid_network()
    return built.requires_grad_(False)


def nothing(batch):
    return torch.zeros(len(batch), dtype=torch.bool)


def test_every_point_judged_is_inside_the_ball_exactly(network, tools):
    attack = attack_on(network, tools, restarts=2)
    batch = some_of(batch_of(tools), [0])
    attack.worst_margins(batch, ~nothing(batch), nothing(batch))
    mean, std = Fraction(tools.normalisation.mean[0]), Fraction(tools.normalisation.std)
    assert attack.prover.seen
    for inputs in attack.prover.seen:
        for x, value in zip(
            inputs.flatten().tolist(), batch.images.flatten().tolist(), strict=True
        ):
            pixel = Fraction(x) * std + mean
            assert 0 <= pixel <= 1
            assert abs(pixel - Fraction(value, 255)) <= EPS


def test_it_breaks_images_that_are_right_but_not_certified(network, tools):
    attack, batch = attack_on(network, tools), batch_of(tools, 200)
    is_right = right(network, tools, batch)
    proof = attack.prover.by_margin(tools.normalisation.apply(batch.images), batch.labels)
    worst = attack.worst_margins(batch, is_right, nothing(batch))
    is_broken = worst <= 0
    is_open = is_right & (proof.radius <= 0.1)
    assert is_broken.sum() > 0.5 * is_open.sum() > 5
    assert not (is_broken & (proof.radius > 0.1)).any()


def test_a_broken_image_has_a_point_in_its_ball_that_is_wrong(network, tools):
    attack, batch = attack_on(network, tools), batch_of(tools)
    worst = attack.worst_margins(batch, right(network, tools, batch), nothing(batch))
    broken = (worst <= 0).nonzero()[0]
    alone = some_of(batch, broken)
    again = attack_on(network, tools)
    again.worst_margins(alone, ~nothing(alone), nothing(alone))
    assert network(again.prover.seen[-1], math.inf).argmax(1).item() != alone.labels.item()


def test_wrong_images_are_left_alone(network, tools):
    attack, batch = attack_on(network, tools), batch_of(tools)
    worst = attack.worst_margins(batch, nothing(batch), nothing(batch))
    assert worst.isinf().all()
    assert not attack.prover.seen


def test_certified_images_get_the_steps_that_the_settings_say(network, tools):
    batch = batch_of(tools)
    for certified_steps in (1, 3):
        attack = attack_on(network, tools, certified_steps=certified_steps)
        inputs = tools.normalisation.apply(batch.images)
        proof = attack.prover.by_margin(inputs, batch.labels)
        batch = some_of(batch, (proof.radius > 0.1).nonzero()[:1, 0])
        attack.worst_margins(batch, ~nothing(batch), ~nothing(batch))
        assert len(attack.prover.seen) == certified_steps


def test_an_image_is_attacked_alike_in_any_batch(network, tools):
    batch = batch_of(tools)
    is_right = right(network, tools, batch)
    settings = {"restarts": 2, "steps": 3}
    whole = attack_on(network, tools, **settings).worst_margins(batch, is_right, nothing(batch))
    for rows in (torch.arange(10, 20), torch.arange(59, -1, -3)):
        part = some_of(batch, rows)
        found = attack_on(network, tools, **settings).worst_margins(
            part, is_right[rows], nothing(part)
        )
        torch.testing.assert_close(found, whole[rows], rtol=0, atol=0)


def test_random_starts_depend_on_the_seed_and_the_restart(network, tools):
    batch = some_of(batch_of(tools), [0, 1])

    def start(seed, restart):
        attack = attack_on(network, tools, seed)
        return attack._start(batch, attack.ball.around(batch.images), restart)

    torch.testing.assert_close(start(0, 1), start(0, 1), rtol=0, atol=0)
    assert (start(0, 1) != start(0, 2)).any()
    assert (start(0, 1) != start(1, 1)).any()
    assert (start(0, 1)[0] != start(0, 1)[1]).any()


def test_every_loss_and_p_is_tried_before_the_next_restart():
    settings = AttackSettings(p=(8, "inf"), losses=("ce",), restarts=2)
    inf = math.inf
    assert tries(settings) == [
        Try(restart, "ce", p) for restart, p in ((0, 8.0), (0, inf), (1, 8.0), (1, inf))
    ]
