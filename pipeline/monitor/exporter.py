"""Shows a rank's metrics to Prometheus while it runs, and leaves their last values behind.

runs/.metrics/targets/*.json   one target a rank that runs now (file_sd), removed at its end
runs/.metrics/*.prom           the last values of each stage's first rank, for node_exporter

A scrape each few seconds misses the end of a stage; the text file has it. Nothing here can fail a
stage: without a port or a disk it goes on unwatched, and says so.
"""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.metrics_core import Metric as Samples
from prometheus_client.registry import Collector

from pipeline.errors import StoppedOnRequest
from pipeline.files import write_atomic
from pipeline.monitor.metrics import STAGE_LAST_SUCCESS, STAGE_RANKS, STAGE_RESUMES, Metrics, State
from pipeline.ranks import Ranks

FOLDER_NAME = ".metrics"
"""In the folder of runs; no pipeline can be called so."""
TARGETS_NAME = "targets"
HOST_VARIABLE = "SUPNORM_METRICS_HOST"
"""The address to listen on, as Prometheus reaches it; loopback where it is not set."""


@dataclass(frozen=True)
class Watched:
    """Whose metrics they are: the labels of every series."""

    run: str
    stage: str
    ranks: Ranks
    num_attempts: int = 1

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the target, and of a text file too, where a scrape adds none."""
        return {
            "run": self.run,
            "stage": self.stage,
            "rank": str(self.ranks.rank),
            "node": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
            "slurm_job_id": os.environ.get("SLURM_JOB_ID", ""),
        }


@contextmanager
def exporting(metrics: Metrics, watched: Watched, runs_dir: Path) -> Iterator[None]:
    """Let Prometheus scrape `metrics` inside; afterwards a text file has their last values.

    Args:
        metrics: of this rank.
        watched: whose they are.
        runs_dir: the folder of runs, whose `.metrics` a Prometheus watches.
    """
    metrics.set(STAGE_RANKS, watched.ranks.world_size)
    metrics.add(STAGE_RESUMES, watched.num_attempts - 1)
    metrics.set_state(State.RUNNING)
    folder = runs_dir / FOLDER_NAME
    name = f"{watched.run}.{watched.stage}"
    text_path = folder / f"{name}.prom" if watched.ranks.is_first else None
    target_path = folder / TARGETS_NAME / f"{name}.{watched.ranks.rank}.json"
    earlier_success = _last_success(text_path)
    if earlier_success:
        metrics.set(STAGE_LAST_SUCCESS, earlier_success)
    try:
        with _announced(metrics, watched, target_path):
            yield
        metrics.set(STAGE_LAST_SUCCESS, time.time())
        metrics.set_state(State.DONE)
    except (KeyboardInterrupt, StoppedOnRequest):
        metrics.set_state(State.STOPPED)
        raise
    except BaseException:
        metrics.set_state(State.FAILED)
        raise
    finally:
        if text_path:
            registry = CollectorRegistry()
            registry.register(_Labelled(metrics.registry, watched.labels))
            _try_to_write(text_path, lambda: write_to_textfile(str(text_path), registry))


class _Labelled(Collector):
    """The families of a registry, with the labels that a scrape would have added."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        self._registry, self._labels = registry, labels

    def collect(self) -> Iterator[Samples]:
        for family in self._registry.collect():
            labelled = Samples(family.name, family.documentation, family.type)
            for sample in family.samples:
                labelled.add_sample(sample.name, {**self._labels, **sample.labels}, sample.value)
            yield labelled


@contextmanager
def _announced(metrics: Metrics, watched: Watched, target_path: Path) -> Iterator[None]:
    """Lead Prometheus to a free port by a target file, as long as the rank runs inside."""
    host = os.environ.get(HOST_VARIABLE) or "127.0.0.1"
    try:
        server, _ = start_http_server(0, host, metrics.registry)
    except OSError as error:
        print(f"metrics: cannot listen on {host} ({error.strerror}); going on", file=sys.stderr)
        yield
        return
    target = {"targets": [f"{host}:{server.server_port}"], "labels": watched.labels}
    _try_to_write(target_path, lambda: write_atomic(target_path, json.dumps([target]) + "\n"))
    try:
        yield
    finally:
        with suppress(OSError):
            target_path.unlink()


def _try_to_write(path: Path, write: Callable[[], None]) -> None:
    """Write a file, or say that this failed: it stops no stage."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        print(f"metrics: {path}: {error.strerror}; going on without", file=sys.stderr)


def _last_success(path: Path | None) -> float | None:
    """Read when the stage last succeeded from the file that an earlier attempt has left."""
    try:
        text = path.read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(rf"^{STAGE_LAST_SUCCESS.name}\{{.*\}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None
