"""Times a pruned network beside the full one, and counting beside certifying, in one run.

    supnorm bench-prune runs/quickstart

`integer forward`: from uint8 images to outputs, as exact certification computes them. `counting`:
how often each edge decides over the training images, beside a plain certification pass over the
same ones, float32 logits, margins and radii. Rivals take turns; each time is the least of several.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

import kernels
from stages.data.batches import in_order
from stages.data.history import read_history
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import read_manifest
from stages.models.family import family_of
from stages.models.linf.integer_file import INTEGER_WEIGHTS_NAME, load_integer_network
from stages.models.network_description import WEIGHTS_NAME
from stages.models.network_file import LoadedNetwork, load_network

BATCH_SIZE = 2000
COUNTED = 10_000
"""Training images that counting is timed on; all batches cost the same."""
LEAST_SECONDS = 0.002
"""One measurement repeats a call until it takes as long: short, to fall between interruptions."""


def bench_prune(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Folder with shard, train, prune, certify, certify_pruned."
        ),
    ],
    turns: Annotated[int, typer.Option(min=1, help="Times each is run.")] = 9,
) -> None:
    """Time a pruned network beside the full one."""
    manifest = read_manifest(run / "shard")
    threads = torch.get_num_threads()
    print(f"{threads} threads, {kernels.backend().cpu}")
    _time_forward(run, load_split(run / "shard", manifest, "test"), turns)
    _time_counting(run, load_split(run / "shard", manifest, "train"), turns)
    for name, files in (
        (WEIGHTS_NAME, (run / "train", run / "prune")),
        (INTEGER_WEIGHTS_NAME, (run / "certify", run / "certify_pruned")),
    ):
        full, pruned = ((folder / name).stat().st_size for folder in files)
        print(f"{name}: full {full:,} bytes, pruned {pruned:,}: {full / pruned:.1f} times smaller")


def _time_forward(run: Path, images: ImageSet, turns: int) -> None:
    full, pruned = (
        load_integer_network(run / folder).network for folder in ("certify", "certify_pruned")
    )
    for batch in (1, 16, 512):
        some = images.images[:batch]
        rivals = (partial(full.outputs_of, some), partial(pruned.outputs_of, some))
        seconds = least_seconds(rivals, 20 * turns)
        print(
            f"integer forward, batch {batch}: full {1e6 * seconds[0]:,.1f} us, pruned "
            f"{1e6 * seconds[1]:,.1f} us: {seconds[0] / seconds[1]:.1f} times as fast"
        )


def _time_counting(run: Path, images: ImageSet, turns: int) -> None:
    loaded = load_network(run / "train")
    family = family_of(loaded.settings)
    pruner = family.pruner(loaded.network, loaded.settings, partial(read_history, run / "train"))
    some = ImageSet(images.split, images.images[:COUNTED], images.labels[:COUNTED])
    count = partial(pruner.count_uses, loaded.normalisation, partial(in_order, some, BATCH_SIZE))
    seconds = least_seconds((count, partial(_certify, loaded, some)), 5 * turns)
    print(
        f"{len(some):,} training images: counting {seconds[0]:.3f} s, plain certification "
        f"{seconds[1]:.3f} s: {seconds[0] / seconds[1]:.2f} times"
    )


def _certify(loaded: LoadedNetwork, images: ImageSet) -> None:
    certifier = family_of(loaded.settings).quick_certifier(loaded.network, loaded.normalisation)
    for batch in in_order(images, BATCH_SIZE):
        certifier.certify(batch.images, batch.labels)


def least_seconds(rivals: tuple[Callable[[], object], ...], turns: int) -> list[float]:
    """Least seconds a call of each, over `turns` turns in which each comes once."""
    seconds = [math.inf] * len(rivals)
    for _ in range(turns):
        for number, call in enumerate(rivals):
            seconds[number] = min(seconds[number], _seconds_a_call(call))
    return seconds


def _seconds_a_call(call: Callable[[], object]) -> float:
    num_calls, start = 0, time.perf_counter()
    while num_calls == 0 or time.perf_counter() - start < LEAST_SECONDS:
        call()
        num_calls += 1
    return (time.perf_counter() - start) / num_calls
