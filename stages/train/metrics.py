"""What a training run shows to Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

from pipeline.monitor.metrics import Metric, Metrics, counter, gauge, histogram
from stages.models.validation import Counts
from stages.train.objective import StepOutput
from stages.train.schedule import StepValues

Item = TypeVar("Item")

IMAGES = counter("supnorm_train_images_total", "Images that this rank trained on.")
STEPS = counter("supnorm_train_steps_total", "Steps done.")
STEP_SECONDS = histogram(
    "supnorm_train_step_seconds", "From one step's end to the next's, pauses left out."
)
DATA_WAIT = counter(
    "supnorm_train_data_wait_seconds_total", "Time spent waiting for the next batch."
)
LOSS = gauge("supnorm_train_loss", "Loss of the newest step looked at, of this rank.")
EPS = gauge("supnorm_train_eps", "Radius of the loss, pixels of an image in [0, 1].")
LEARNING_RATE = gauge("supnorm_train_learning_rate", "Adam's learning rate.")
GRADIENT_NORM = gauge(
    "supnorm_train_gradient_norm", "Euclidean norm of the gradient of the newest step looked at."
)
VALIDATION_CLEAN = gauge(
    "supnorm_train_validation_clean_accuracy_ratio", "Validation images that are right."
)
VALIDATION_CERTIFIED = gauge(
    "supnorm_train_validation_certified_accuracy_ratio", "Validation images proved right at eps."
)
CHECKPOINT_SECONDS = gauge(
    "supnorm_train_checkpoint_seconds", "How long the newest checkpoint took to write."
)
CHECKPOINT_TIME = gauge(
    "supnorm_train_checkpoint_timestamp_seconds", "When the newest checkpoint was committed."
)
GPU_MEMORY = gauge("supnorm_train_gpu_memory_bytes", "Most memory that tensors have taken.")


@cache
def column(name: str) -> Metric:
    """The gauge of a value that the network's family or the loss shows of each step."""
    return gauge(f"supnorm_train_{name}", "A value of the newest step; see the training history.")


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
            self._metrics.add(DATA_WAIT, waited_s)
            self._waited_s += waited_s
            yield batch

    def lap_of_waiting(self) -> float:
        """Seconds spent waiting for batches since the last lap; starts the next one."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def count_step(self, values: StepValues, num_images: int) -> None:
        """Count a step that this rank has done with `num_images` images."""
        metrics = self._metrics
        metrics.add(STEPS)
        metrics.add(IMAGES, num_images)
        metrics.observe(STEP_SECONDS, time.perf_counter() - self._begun)
        metrics.set(EPS, self._eps_train * values.radius_share)
        metrics.set(LEARNING_RATE, values.learning_rate)
        for name, value in values.columns.items():
            metrics.set(column(name), value)

    def look_at(self, output: StepOutput) -> None:
        """Read what only the device knows; on a GPU this waits for it."""
        self._metrics.set(LOSS, float(output.loss))
        if torch.cuda.is_available():
            self._metrics.set(GPU_MEMORY, torch.cuda.max_memory_allocated())

    def show_gradient_norm(self, norm: float | None) -> None:
        """The newest that was measured; None where none was yet."""
        if norm is not None:
            self._metrics.set(GRADIENT_NORM, norm)

    def record_validation(self, counts: Counts) -> None:
        """The newest validation."""
        self._metrics.set(VALIDATION_CLEAN, counts.clean_accuracy)
        self._metrics.set(VALIDATION_CERTIFIED, counts.certified_accuracy)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A checkpoint is written inside."""
        start = time.perf_counter()
        yield
        self._metrics.set(CHECKPOINT_SECONDS, time.perf_counter() - start)
        self._metrics.set(CHECKPOINT_TIME, time.time())
