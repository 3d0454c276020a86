"""Metrics: names that tell stage and unit, nothing shown that was not measured, next to no cost."""

import re
import time

import pytest
from prometheus_client.exposition import generate_latest

from pipeline.monitor.metrics import Metrics, State
from stages.certify import metrics as certify
from stages.train import metrics as train
from tests.monitoring.catalogue import catalogue
from tools.bench_metrics import record_step

STAGES = "stage|shard|train|prune|certify|report"


@pytest.mark.parametrize("metric", catalogue(), ids=lambda metric: metric.name)
def test_a_metric_is_named_after_its_stage_and_described(metric):
    assert re.fullmatch(f"supnorm_({STAGES})_[a-z_]+", metric.name)
    assert not re.search(r"_(ms|us|mib|gib|kb|mb|percent)(_|$)", metric.name)
    assert (metric.kind.__name__ == "Counter") == metric.name.endswith("_total")
    assert metric.help.endswith(".")


def test_only_what_was_measured_is_shown():
    metrics = Metrics()
    assert generate_latest(metrics.registry) == b""
    metrics.set(train.column("p"), float("inf"))
    metrics.add(certify.IMAGES, 3, verdict="certified")
    metrics.add(certify.IMAGES, verdict="certified")
    text = generate_latest(metrics.registry).decode()
    assert "supnorm_train_p +Inf\n" in text
    assert 'supnorm_certify_images_total{verdict="certified"} 4.0\n' in text
    assert "_created" not in text
    assert "supnorm_train_loss" not in text


def test_a_stage_is_in_one_state_at_a_time():
    metrics = Metrics()
    metrics.set_state(State.RUNNING)
    metrics.set_state(State.STOPPED)
    values = {
        sample.labels["state"]: sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
    }
    assert values == {"running": 0, "done": 0, "stopped": 1, "failed": 0}


def test_what_a_step_records_costs_less_than_50_microseconds():
    """One per cent of a step of 5 ms; the quickstart's take 60 ms."""
    metrics = Metrics()

    def seconds_a_step(num_steps: int = 200) -> float:
        start = time.perf_counter()
        for _ in range(num_steps):
            record_step(metrics)
        return (time.perf_counter() - start) / num_steps

    assert min(seconds_a_step() for _ in range(20)) < 50e-6
