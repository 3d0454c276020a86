from fractions import Fraction

import pytest
import torch

from stages.models.images import Normalisation

CIFAR = Normalisation((0.4914, 0.4822, 0.4465), 0.2009)
FASHION = Normalisation((0.2860,), 0.3520)


def all_pixels(channels: int) -> torch.Tensor:
    return torch.arange(256, dtype=torch.uint8).view(256, 1, 1, 1).expand(256, channels, 1, 1)


def test_every_pixel_value_is_normalised_within_float32_rounding() -> None:
    found = CIFAR.apply(all_pixels(3)).double()
    mean = torch.tensor(CIFAR.mean, dtype=torch.float64).view(3, 1, 1)
    exact = (all_pixels(3).double() / 255 - mean) / CIFAR.std
    assert found.dtype == torch.float64
    assert (found - exact).abs().max() <= 2**-22 / CIFAR.std


@pytest.mark.parametrize("eps", [Fraction(8, 255), Fraction(1, 10), Fraction(2, 255)])
def test_eps_input_is_the_smallest_float_that_is_not_too_small(eps: Fraction) -> None:
    for normalisation in (CIFAR, FASHION):
        exact = eps / Fraction(normalisation.std)
        found = normalisation.eps_input(eps)
        assert Fraction(found) >= exact
        assert found - float(exact) <= 2**-50


def test_the_pixel_box_is_black_and_white() -> None:
    lower, upper = CIFAR.pixel_box()
    found = CIFAR.apply(all_pixels(3))
    assert torch.equal(lower, found[0])
    assert torch.equal(upper, found[255])
    assert lower.shape == (3, 1, 1)


def test_images_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match=r"uint8 images of 3 channels, got torch.uint8 of shape"):
        CIFAR.apply(all_pixels(1))
    with pytest.raises(ValueError, match=r"got torch.float32"):
        FASHION.apply(all_pixels(1).float())


@pytest.mark.parametrize("mean, std", [((), 1.0), ((0.5,), 0.0), ((float("nan"),), 1.0)])
def test_a_normalisation_that_makes_no_sense_is_refused(mean, std) -> None:
    with pytest.raises(ValueError, match=r"finite means, one a channel, and a positive std"):
        Normalisation(mean, std)
