"""What a metric is, the metrics that every stage has, and their values on one rank.

A stage declares its own in `stages/<kind>/metrics.py`. Names are `supnorm_<stage>_<what>_<unit>`,
units are seconds and bytes, accuracies lie in [0, 1]. Run, stage, rank, node and job are labels of
the scraped target, not of a metric. A family appears with its first value, so nothing that was not
measured shows as 0.
"""

from dataclasses import dataclass
from enum import Enum
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
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


def counter(name: str, text: str, *labels: str) -> Metric:
    """A number that only grows; its name ends in `_total`."""
    return Metric(name, Counter, text, labels)


def gauge(name: str, text: str, *labels: str) -> Metric:
    """A number that goes up and down."""
    return Metric(name, Gauge, text, labels)


def histogram(name: str, text: str) -> Metric:
    """How often a duration fell into each of `STEP_BUCKETS_S`."""
    return Metric(name, Histogram, text)


STAGE_STATE = gauge("supnorm_stage_state", "1 for the state that the stage is in, else 0.", "state")
STAGE_LAST_SUCCESS = gauge(
    "supnorm_stage_last_success_timestamp_seconds", "When this rank last finished its stage."
)
STAGE_RESUMES = counter("supnorm_stage_resumes_total", "Earlier attempts that this one continues.")
STAGE_RANKS = gauge("supnorm_stage_ranks", "Ranks that share the stage.")
STAGE_PROGRESS = gauge("supnorm_stage_progress_ratio", "Share of the step under way that is done.")


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
