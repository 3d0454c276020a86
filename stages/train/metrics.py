"""What a training run shows to Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from pipeline.monitor import metrics as names
from pipeline.monitor.metrics import Metrics
from stages.models.validation import Counts
from stages.train.losses import StepOutput
from stages.train.schedule import StepValues

Item = TypeVar("Item")


class TrainMetrics:
    """Turns what happens in a run into metrics; each call costs a few microseconds.

    Args:
        metrics: of this rank.
        eps_train: the radius that the loss grows to, in pixels.
    """

    def __init__(self, metrics: Metrics, eps_train: float) -> None:
        self._metrics, self._eps_train = metrics, eps_train
        self._begun, self._waited_s = time.perf_counter(), 0.0

    def timed(self, batches: Iterator[Item]) -> Iterator[Item]:
        """The same batches; what is spent waiting for each is counted, and its step begins here."""
        while True:
            self._begun = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            waited_s = time.perf_counter() - self._begun
            self._metrics.add(names.TRAIN_DATA_WAIT, waited_s)
            self._waited_s += waited_s
            yield batch

    def lap_of_waiting(self) -> float:
        """Seconds spent waiting for batches since the last lap; starts the next one."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def count_step(self, moment: StepValues, num_images: int) -> None:
        """Count a step that this rank has done with `num_images` images."""
        metrics = self._metrics
        metrics.add(names.TRAIN_STEPS)
        metrics.add(names.TRAIN_IMAGES, num_images)
        metrics.observe(names.TRAIN_STEP_SECONDS, time.perf_counter() - self._begun)
        metrics.set(names.TRAIN_P, moment.p)
        metrics.set(names.TRAIN_EPS, self._eps_train * moment.radius_share)
        metrics.set(names.TRAIN_LEARNING_RATE, moment.learning_rate)
        metrics.set(names.TRAIN_LAMBDA, moment.cross_entropy_weight)

    def look_at(self, outcome: StepOutput) -> None:
        """Read what only the device knows; on a GPU this waits for it."""
        self._metrics.set(names.TRAIN_LOSS, float(outcome.loss))
        if torch.cuda.is_available():
            self._metrics.set(names.TRAIN_GPU_MEMORY, torch.cuda.max_memory_allocated())

    def show_gradient_norm(self, norm: float | None) -> None:
        """The newest that was measured; None where none was yet."""
        if norm is not None:
            self._metrics.set(names.TRAIN_GRADIENT_NORM, norm)

    def record_validation(self, counts: Counts) -> None:
        """The newest validation."""
        self._metrics.set(names.TRAIN_VALIDATION_CLEAN, counts.clean_accuracy)
        self._metrics.set(names.TRAIN_VALIDATION_CERTIFIED, counts.certified_accuracy)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written inside."""
        start = time.perf_counter()
        yield
        self._metrics.set(names.TRAIN_CHECKPOINT_SECONDS, time.perf_counter() - start)
        self._metrics.set(names.TRAIN_CHECKPOINT_TIME, time.time())
