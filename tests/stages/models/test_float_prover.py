import math
from fractions import Fraction

import pytest
import torch

from kernels.layers import Box
from pipeline.errors import UserError
from stages.data.radius import largest_float_up_to
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings
from stages.models.linf.float_error import features_reached, float_slack
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import build_network

NORMALISATION = Normalisation((0.286,), 0.352)
SHAPE = (3, 3, 1)


def is_certified(radius, eps):
    return radius > largest_float_up_to(eps)


def slack_of(built):
    return float_slack(built.head, features_reached(built, NORMALISATION))


def network(kind, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = (
            build_network(DistanceMLPSettings(kind="distance_mlp", width=16, depth=3), SHAPE, 3)
            if kind == "distance"
            else build_network(HybridSettings(kind="hybrid", width=16, depth=2, hidden=8), SHAPE, 3)
        )
        for layer in built.hidden:
            layer.centering.running_mean.normal_(2.0, 0.3)
    return built.eval()


def images_of(seed, count=64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 1, 3, 3), dtype=torch.uint8, generator=generator)


def own_labels(prover, inputs):
    return prover.logits(inputs).argmax(1)


def ball(inputs, eps):
    reach = NORMALISATION.eps_input(eps)
    return Box(inputs - reach, inputs + reach)


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_no_random_point_of_a_proved_ball_changes_the_answer(kind):
    num_proved = 0
    for seed in range(5):
        prover = FloatProver(network(kind, seed), NORMALISATION)
        images = images_of(seed)
        inputs = NORMALISATION.apply(images)
        labels = own_labels(prover, inputs)
        proof = prover.by_margin(images, labels)
        reach = (proof.radius / NORMALISATION.std * (1 - 1e-6)).float().view(-1, 1, 1, 1)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(50):
            corner = torch.randint(0, 2, inputs.shape, generator=generator) * 2 - 1
            found = prover.logits(inputs + corner * reach).argmax(1)
            assert (found[proof.radius > 0] == labels[proof.radius > 0]).all()
        num_proved += (proof.radius > 1e-3).sum()
    assert num_proved > 100


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_a_box_is_proved_wherever_the_margin_proves_the_ball(kind):
    """Without clipping to valid pixels the two agree for distance layers up to rounding."""
    prover = FloatProver(network(kind, 7), NORMALISATION)
    images = images_of(7)
    inputs = NORMALISATION.apply(images)
    labels = own_labels(prover, inputs)
    radius = prover.by_margin(images, labels).radius
    for eps in (Fraction(1, 255), Fraction(4, 255), Fraction(16, 255)):
        by_box = prover.proves_box(ball(inputs, eps), labels)
        by_margin = is_certified(radius * 0.999, eps)
        assert (by_box >= by_margin).all()


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_no_random_point_of_a_proved_box_changes_the_answer(kind):
    num_proved = num_left = 0
    for seed in range(5):
        prover = FloatProver(network(kind, seed), NORMALISATION)
        images = images_of(seed)
        inputs = NORMALISATION.apply(images)
        labels = own_labels(prover, inputs)
        for eps in (Fraction(2, 255), Fraction(8, 255), Fraction(20, 255)):
            box = ball(inputs, eps)
            is_proved = prover.proves_box(box, labels)
            generator = torch.Generator().manual_seed(seed)
            for _ in range(20):
                corner = torch.randint(0, 2, inputs.shape, generator=generator).bool()
                found = prover.logits(torch.where(corner, *box)).argmax(1)
                assert (found == labels)[is_proved].all()
            num_proved += int(is_proved.sum())
            num_left += int((~is_proved).sum())
    assert num_proved > 20 and num_left > 20


def test_a_lead_within_the_slack_proves_nothing():
    built = network("distance", 0)
    with torch.no_grad():
        built.head.distance.weight.zero_()
        built.head.bias.copy_(torch.tensor([0.0, 1e-6, 1e-6]))
    prover = FloatProver(built, NORMALISATION)
    images = images_of(0, 4)
    inputs = NORMALISATION.apply(images)
    labels = torch.zeros(4, dtype=torch.int64)
    assert slack_of(built) > 1e-6
    proof = prover.by_margin(images, labels)
    assert (proof.margin > 0).all() and (proof.predicted == 0).all()
    assert not proof.radius.any()
    assert not prover.proves_box(Box(inputs, inputs), labels).any()


def test_a_hybrids_lead_within_float64_rounding_proves_nothing():
    built = network("hybrid", 0)
    with torch.no_grad():
        built.head.second.weight.fill_(1)
        built.head.second.bias.copy_(torch.tensor([1e-14, 0.0, 0.0]))
    prover = FloatProver(built, NORMALISATION)
    images = images_of(0, 4)
    inputs = NORMALISATION.apply(images)
    labels = torch.zeros(4, dtype=torch.int64)
    assert not prover.by_margin(images, labels).radius.any()
    assert not prover.proves_box(Box(inputs, inputs), labels).any()


def test_the_slack_comes_off_every_radius():
    built = network("distance", 4)
    images = images_of(4)
    inputs = NORMALISATION.apply(images)
    labels = own_labels(prover := FloatProver(built, NORMALISATION), inputs)
    proof = prover.by_margin(images, labels)
    slack = slack_of(built)
    whole = proof.margin * NORMALISATION.std / 2
    assert (proof.radius < (whole - slack * NORMALISATION.std / 2).clamp(min=1e-300)).all()


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_a_wrong_label_is_never_proved(kind):
    prover = FloatProver(network(kind, 1), NORMALISATION)
    images = images_of(1)
    inputs = NORMALISATION.apply(images)
    labels = (own_labels(prover, inputs) + 1) % 3
    proof = prover.by_margin(images, labels)
    assert not proof.radius.any()
    assert (proof.predicted != labels).all()
    assert not prover.proves_box(Box(inputs, inputs), labels).any()


def test_hybrid_logits_agree_with_the_network():
    built = network("hybrid", 2)
    images = images_of(2)
    inputs = NORMALISATION.apply(images)
    found = FloatProver(built, NORMALISATION).logits(inputs)
    torch.testing.assert_close(found.float(), built(inputs, math.inf))


def test_hybrid_radius_is_the_float32_bound_up_to_rounding():
    """Just inside the radius `worst_case` proves the ball too, just outside it does not."""
    built = network("hybrid", 3)
    prover = FloatProver(built, NORMALISATION)
    images = images_of(3)
    inputs = NORMALISATION.apply(images)
    labels = own_labels(prover, inputs)
    radius = prover.by_margin(images, labels).radius
    assert (radius > 0).sum() > 20
    for index in (radius > 0.001).nonzero()[:20, 0]:
        one = slice(index, index + 1)
        for factor, is_proved in ((0.99, True), (1.01, False)):
            eps_input = radius[index].item() / NORMALISATION.std * factor
            worst = built.worst_case(inputs[one], labels[one], math.inf, eps_input).worst
            others = worst.scatter(1, labels[one, None], -math.inf).amax()
            assert (others < 0).item() is is_proved


def test_an_empty_box_is_refused():
    prover = FloatProver(network("distance", 0), NORMALISATION)
    images = images_of(0, 2)
    inputs = NORMALISATION.apply(images)
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="lower end above"):
        prover.proves_box(Box(inputs + 1, inputs), labels)
    with pytest.raises(ValueError, match="no number"):
        prover.proves_box(Box(inputs * math.nan, inputs), labels)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(bad):
    built = network("distance", 0)
    with torch.no_grad():
        built.head.distance.weight[0, 0] = bad
    with pytest.raises(UserError, match=r"head\.distance\.weight holds 1 numbers"):
        FloatProver(built, NORMALISATION)


def test_training_mode_is_refused():
    with pytest.raises(UserError, match="training mode"):
        FloatProver(network("distance", 0).train(), NORMALISATION)


def test_other_precisions_are_refused():
    with pytest.raises(UserError, match="float64"):
        FloatProver(network("distance", 0).double(), NORMALISATION)
