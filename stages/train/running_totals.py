"""Sums over the training steps since the last validation: loss, images, time."""

import time

import torch
import torch.distributed as dist
from torch import Tensor

from stages.train.objective import StepOutput


class TrainTotals:
    """Loss, number right and number of images since the last validation, summed on the device."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        """(loss * images, right, images), of this rank until `collect`."""

    def add(self, output: StepOutput, num_images: int, mean_count: float) -> None:
        """Count one step of this rank; its loss is a sum over images divided by `mean_count`."""
        self.sums[0] += output.loss * mean_count
        self.sums[1] += output.num_correct
        self.sums[2] += num_images

    def collect(self) -> Tensor:
        """Move the sums of all ranks to the first one, so that its checkpoint holds them all.

        Returns:
            The sums over all ranks, on every rank.
        """
        dist.all_reduce(self.sums)
        total = self.sums.clone()
        if dist.get_rank() != 0:
            self.sums.zero_()
        return total

    @property
    def mean_loss(self) -> float:
        """Mean loss over the images counted here."""
        return float(self.sums[0] / self.sums[2])

    @property
    def accuracy(self) -> float:
        """Share of the images counted here that were right."""
        return float(self.sums[1] / self.sums[2])


class Throughput:
    """A stopwatch that runs while steps are done and stands while validating or saving."""

    def __init__(self) -> None:
        self._num_images, self._seconds = 0, 0.0
        self._started = time.monotonic()

    def add(self, num_images: int) -> None:
        """Count the images of a step, over all ranks."""
        self._num_images += num_images

    def stop(self) -> None:
        """Steps pause."""
        self._seconds += time.monotonic() - self._started

    def go(self) -> None:
        """Steps go on."""
        self._started = time.monotonic()

    def share_of(self, seconds: float) -> float:
        """The part of the time since the last lap that so many seconds are; steps must pause."""
        return seconds / self._seconds if self._seconds else 0.0

    def lap(self) -> float:
        """Images a second since the last lap; steps must pause. Starts the next lap."""
        rate = self._num_images / self._seconds if self._num_images else 0.0
        self._num_images, self._seconds = 0, 0.0
        return rate
