from fractions import Fraction

import pytest
import torch

from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.ball import InnerBall, box_around

GREY = Normalisation((0.286,), 0.352)
COLOUR = Normalisation((0.4914, 0.4822, 0.4465), 0.2009)
CPU = torch.device("cpu")


def every_value(normalisation):
    """uint8 (256, C, 1, 1): image v has v in every channel."""
    values = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1)
    return values.expand(-1, len(normalisation.mean), 1, 1)


def exact_ends(value, eps, mean, std):
    pixel = Fraction(value, 255)
    low, high = max(pixel - eps, 0), min(pixel + eps, 1)
    return tuple((Fraction(end) - Fraction(mean)) / Fraction(std) for end in (low, high))


def ends(box, normalisation, eps):
    """(lower, upper, exact lower, exact upper) for every value and channel."""
    for value in range(256):
        for channel, mean in enumerate(normalisation.mean):
            found = [Fraction(end[value, channel, 0, 0].item()) for end in box]
            yield (*found, *exact_ends(value, eps, mean, normalisation.std))


@pytest.mark.parametrize("normalisation", [GREY, COLOUR])
@pytest.mark.parametrize("eps", [Fraction(1, 10), Fraction(8, 255), Fraction(1, 255), Fraction(1)])
def test_inner_ball_is_inside_and_misses_less_than_a_unit_in_the_last_place(normalisation, eps):
    box = InnerBall(eps, normalisation, CPU).around(every_value(normalisation))
    for lower, upper, least, most in ends(box, normalisation, eps):
        assert least <= lower <= upper <= most
        assert lower - least < Fraction(1, 10**6) and most - upper < Fraction(1, 10**6)


@pytest.mark.parametrize("normalisation", [GREY, COLOUR])
@pytest.mark.parametrize("radius", [0.1, 8 / 255, 1e-9, 0.0, 1.0])
def test_box_around_holds_the_ball_and_little_more(normalisation, radius):
    radii = torch.full((256,), radius, dtype=torch.float64)
    box = box_around(every_value(normalisation), radii, normalisation)
    for lower, upper, least, most in ends(box, normalisation, Fraction(radius)):
        assert lower <= least and most <= upper
        assert least - lower < Fraction(1, 10**6) and upper - most < Fraction(1, 10**6)


def test_each_image_has_its_own_radius():
    images = torch.full((2, 1, 1, 1), 100, dtype=torch.uint8)
    box = box_around(images, torch.tensor([0.1, 0.2], dtype=torch.float64), GREY)
    widths = (box.upper - box.lower).flatten() * GREY.std
    torch.testing.assert_close(widths, torch.tensor([0.2, 0.4]))


def test_an_eps_that_float32_cannot_tell_apart_is_refused():
    with pytest.raises(UserError, match="finer than float32"):
        InnerBall(Fraction(1, 10**12), GREY, CPU)
