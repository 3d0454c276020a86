"""No certificate of a random small network is wrong; plain float32 ones are, and are found."""

from fractions import Fraction

import torch

from pipeline.errors import UserError
from tools.fuzz_certificates import count_broken, draw_case, exact_claims, hunt, real_layers

NUM_NETS = 10_000


def test_exact_certificates_are_never_broken():
    tally = hunt("exact", NUM_NETS, seed=1_000_000)
    assert tally.broken == 0
    assert tally.claims > 3 * NUM_NETS
    assert tally.refused < NUM_NETS // 10


def test_float_certificates_with_slack_are_never_broken():
    tally = hunt("float", 500, seed=2_000_000)
    assert tally.broken == 0
    assert tally.claims > 1500


def test_plain_float_certificates_are_broken_so_the_hunt_can_fail():
    assert hunt("plain", 200, seed=3_000_000).broken >= 5


def test_a_claim_of_one_half_unit_too_much_is_broken():
    num_broken = 0
    for seed in range(300):
        case = draw_case(seed)
        try:
            claims, layers, per_pixel = exact_claims(case)
        except UserError:  # its numbers do not fit 32 bits
            continue
        further = [claim._replace(eps=claim.eps + Fraction(1, per_pixel)) for claim in claims]
        num_broken += count_broken(case, further, layers, per_pixel)
    assert num_broken > 30


def test_real_layers_are_the_network_over_the_rationals():
    case = draw_case(4)
    layers, scale = real_layers(case, [])
    assert scale % 255 == 0
    weights = (
        case.network.hidden[0].distance if case.network.hidden else case.network.head.distance
    ).weight
    found = torch.tensor((layers[0].weight / scale).astype(float))
    normalisation = case.normalisation
    expected = weights.double() * normalisation.std + normalisation.mean[0]
    torch.testing.assert_close(found, expected)


def test_cases_repeat_and_differ():
    first, again, other = draw_case(1), draw_case(1), draw_case(2)
    assert isinstance(first.network, torch.nn.Module)
    assert torch.equal(first.images, again.images)
    assert first.images.shape != other.images.shape or not torch.equal(first.images, other.images)
