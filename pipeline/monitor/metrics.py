"""Every metric of every stage, in one place: what it is called, its unit, what it tells.

Names are `supnorm_<stage>_<what>_<unit>`, units are seconds and bytes, accuracies lie in [0, 1].
Run, stage, rank, node and job are labels of the scraped target, not of a metric. A family appears
with its first value, so nothing that was not measured shows as 0.

`python -m pipeline.monitor.metrics` measures what a step spends on them.
"""

import timeit
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter

STEP_BUCKETS_S = tuple(base * 10.0**power for power in range(-4, 3) for base in (1, 2, 5))
"""From a tenth of a millisecond to minutes, for the steps of any network."""


class State(Enum):
    """What a stage is doing."""

    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    """Asked to stop; the next start goes on from the checkpoint."""
    FAILED = "failed"


@dataclass(frozen=True)
class Metric:
    """One family of time series."""

    name: str
    kind: type[Counter | Gauge | Histogram]
    help: str
    labels: tuple[str, ...] = ()

    def create(self, registry: CollectorRegistry) -> MetricWrapperBase:
        """The family, with no value yet, in a registry."""
        if self.kind is Histogram:
            return Histogram(
                self.name, self.help, self.labels, buckets=STEP_BUCKETS_S, registry=registry
            )
        return self.kind(self.name, self.help, self.labels, registry=registry)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Counter, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, Gauge, text, labels)


STAGE_STATE = _gauge(
    "supnorm_stage_state", "1 for the state that the stage is in, else 0.", "state"
)
STAGE_LAST_SUCCESS = _gauge(
    "supnorm_stage_last_success_timestamp_seconds", "When this rank last finished its stage."
)
STAGE_RESUMES = _counter("supnorm_stage_resumes_total", "Earlier tries that this one goes on from.")
STAGE_RANKS = _gauge("supnorm_stage_ranks", "Ranks that share the stage.")
STAGE_PROGRESS = _gauge("supnorm_stage_progress_ratio", "Share of the step under way that is done.")

SHARD_SHARDS = _counter("supnorm_shard_shards_total", "Shards written.", "split")
SHARD_IMAGES = _counter("supnorm_shard_images_total", "Images written to shards.", "split")

TRAIN_IMAGES = _counter("supnorm_train_images_total", "Images that this rank trained on.")
TRAIN_STEPS = _counter("supnorm_train_steps_total", "Steps done.")
TRAIN_STEP_SECONDS = Metric(
    "supnorm_train_step_seconds", Histogram, "From one step's end to the next's, pauses left out."
)
TRAIN_DATA_WAIT = _counter(
    "supnorm_train_data_wait_seconds_total", "Time spent waiting for the next batch."
)
TRAIN_LOSS = _gauge("supnorm_train_loss", "Loss of the newest step looked at, of this rank.")
TRAIN_P = _gauge("supnorm_train_p", "Norm of the distance layers; +Inf at the end.")
TRAIN_EPS = _gauge("supnorm_train_eps", "Radius of the loss, pixels of an image in [0, 1].")
TRAIN_LEARNING_RATE = _gauge("supnorm_train_learning_rate", "Adam's learning rate.")
TRAIN_LAMBDA = _gauge("supnorm_train_lambda", "Weight of the cross-entropy in a mixture loss.")
TRAIN_GRADIENT_NORM = _gauge(
    "supnorm_train_gradient_norm", "Euclidean norm of the gradient of the newest step looked at."
)
TRAIN_VALIDATION_CLEAN = _gauge(
    "supnorm_train_validation_clean_accuracy_ratio", "Validation images that are right."
)
TRAIN_VALIDATION_CERTIFIED = _gauge(
    "supnorm_train_validation_certified_accuracy_ratio", "Validation images proved right at eps."
)
TRAIN_CHECKPOINT_SECONDS = _gauge(
    "supnorm_train_checkpoint_seconds", "How long the newest checkpoint took to write."
)
TRAIN_CHECKPOINT_TIME = _gauge(
    "supnorm_train_checkpoint_timestamp_seconds", "When the newest checkpoint was committed."
)
TRAIN_GPU_MEMORY = _gauge("supnorm_train_gpu_memory_bytes", "Most memory that tensors have taken.")

PRUNE_EDGES = _gauge("supnorm_prune_edges", "Edges of the network: before, and kept.", "which")

CERTIFY_IMAGES = _counter(
    "supnorm_certify_images_total",
    "Images examined: certified, undecided, broken by the attack, or wrong unchanged.",
    "verdict",
)

CATALOGUE: tuple[Metric, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Metric)
)
"""Every metric that any stage can show."""


class Metrics:
    """The metrics of one rank. A value costs about a microsecond, so every step may set several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: dict[str, MetricWrapperBase] = {}

    def add(self, metric: Metric, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        cast(Counter, self._child(metric, labels)).inc(amount)

    def set(self, metric: Metric, value: float, **labels: str) -> None:
        """Set a gauge."""
        cast(Gauge, self._child(metric, labels)).set(value)

    def observe(self, metric: Metric, value: float) -> None:
        """Count a value into a histogram."""
        cast(Histogram, self._child(metric, {})).observe(value)

    def set_state(self, state: State) -> None:
        """Say what the stage is doing."""
        for other in State:
            self.set(STAGE_STATE, float(other is state), state=other.value)

    def _child(self, metric: Metric, labels: dict[str, str]) -> MetricWrapperBase:
        family = self._families.get(metric.name)
        if family is None:
            family = self._families[metric.name] = metric.create(self.registry)
        return family.labels(**labels) if labels else family


def _print_cost(num_steps: int = 20_000) -> None:
    """Say what a training step, and a scrape, spend on metrics: the least of five measurements."""
    metrics = Metrics()

    def seconds(action: Callable[[], object], times: int) -> float:
        return min(timeit.repeat(action, number=times, repeat=5)) / times

    def record_step() -> None:
        metrics.add(TRAIN_DATA_WAIT, 1e-5)
        metrics.add(TRAIN_STEPS)
        metrics.add(TRAIN_IMAGES, 512)
        metrics.observe(TRAIN_STEP_SECONDS, 0.06)
        for gauge in (TRAIN_P, TRAIN_EPS, TRAIN_LEARNING_RATE, TRAIN_LAMBDA):
            metrics.set(gauge, 1.0)
        for gauge in (TRAIN_LOSS, TRAIN_GRADIENT_NORM):
            metrics.set(gauge, 1.0)

    print(f"a step: {1e6 * seconds(record_step, num_steps):.1f} us")
    print(f"a scrape: {1e3 * seconds(lambda: generate_latest(metrics.registry), 200):.2f} ms")


if __name__ == "__main__":
    _print_cost()
