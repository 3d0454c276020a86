"""`supnorm bench-metrics`: what a training step spends on its metrics."""

import timeit
from collections.abc import Callable
from typing import Annotated

import typer
from prometheus_client.exposition import generate_latest

from pipeline.monitor.metrics import Metrics
from stages.train import metrics as train


def bench_metrics(
    steps: Annotated[int, typer.Option(min=1, help="Steps a measurement.")] = 20_000,
) -> None:
    """Say what a training step, and a scrape, spend on metrics: the least of five measurements."""
    metrics = Metrics()
    print(f"a step: {1e6 * _seconds(lambda: record_step(metrics), steps):.1f} us")
    print(f"a scrape: {1e3 * _seconds(lambda: generate_latest(metrics.registry), 200):.2f} ms")


def record_step(metrics: Metrics) -> None:
    """Record all that a training step does."""
    metrics.add(train.DATA_WAIT, 1e-5)
    metrics.add(train.STEPS)
    metrics.add(train.IMAGES, 512)
    metrics.observe(train.STEP_SECONDS, 0.06)
    for gauge in (
        train.column("p"),
        train.EPS,
        train.LEARNING_RATE,
        train.column("cross_entropy_weight"),
        train.LOSS,
        train.GRADIENT_NORM,
    ):
        metrics.set(gauge, 1.0)


def _seconds(action: Callable[[], object], times: int) -> float:
    return min(timeit.repeat(action, number=times, repeat=5)) / times
