import numpy as np
import pytest

from pipeline.errors import StageError
from stages.shard.statistics import mean_and_std, pixel_histogram


def test_a_histogram_counts_each_channel_apart() -> None:
    images = np.zeros((2, 3, 3, 2), np.uint8)
    images[0, 0, 0] = (5, 255)
    histogram = pixel_histogram(images)
    assert histogram.shape == (2, 256)
    assert (histogram[0, 0], histogram[0, 5], histogram[1, 255]) == (17, 1, 1)


def test_mean_and_std_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 8, 8, 3), dtype=np.uint8)
    means, std = mean_and_std(pixel_histogram(images))
    pixels = images / 255
    assert means == tuple(np.round(pixels.mean((0, 1, 2)), 4))
    assert std == np.round(np.sqrt(pixels.var((0, 1, 2)).mean()), 4)


def test_flat_images_are_refused() -> None:
    with pytest.raises(StageError, match="one flat colour"):
        mean_and_std(pixel_histogram(np.full((4, 3, 3, 1), 7, np.uint8)))
