"""Mean and standard deviation of pixels, from exact counts: the order of images cannot matter."""

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import StageError

Histogram = NDArray[np.int64]


def pixel_histogram(images: NDArray[np.uint8]) -> Histogram:
    """Count how often each channel of images (n, H, W, C) has each value: (C, 256)."""
    channels = images.reshape(-1, images.shape[3]).T
    return np.stack([np.bincount(channel, minlength=256) for channel in channels])


def mean_and_std(histogram: Histogram) -> tuple[tuple[float, ...], float]:
    """Return channel means and the one std of pixels in [0, 1], rounded to four decimals.

    std^2 is the mean over channels of the variance around the channel's own mean.

    Raises:
        StageError: all pixels of every channel are alike.
    """
    values = np.arange(256) / 255
    num_pixels = histogram.sum(axis=1)
    means = histogram @ values / num_pixels
    variances = histogram @ values**2 / num_pixels - means**2
    std = round(float(np.sqrt(variances.mean())), 4)
    if not std > 0:
        raise StageError(
            "every training image is one flat colour (std 0), so nothing can be learned from them; "
            "check the source folder"
        )
    return tuple(round(float(mean), 4) for mean in means), std
