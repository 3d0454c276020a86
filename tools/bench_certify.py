"""Times exact certification beside the float32 interval pass, on the same images in one run.

    supnorm bench-certify runs/quickstart

Both decide of every image whether it is certified at eps: `float interval` pushes the ball's valid
images through in float32, `exact` takes the margin in whole numbers and pushes a box through only
where that does not decide. They take turns; each time is the least of several.
"""

import math
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

import kernels
from stages.data.in_memory import ImageSet, load_split
from stages.data.manifest import read_manifest
from stages.data.radius import parse_fraction
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.integer_file import load_integer_network
from stages.models.network_file import LoadedNetwork, load_network

BATCH_SIZE = 500


def bench_certify(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder with shard, train and certify.")
    ],
    eps: Annotated[str, typer.Option(help="Radius in pixels, an exact fraction.")] = "1/10",
    turns: Annotated[int, typer.Option(min=1, help="Times each is run.")] = 7,
) -> None:
    """Time exact certification beside the float32 interval pass."""
    images = load_split(run / "shard", read_manifest(run / "shard"), "test")
    loaded = load_network(run / "train")
    prover = ExactProver(load_integer_network(run / "certify").network)
    radius = parse_fraction(eps)
    methods: dict[str, Callable[[], int]] = {
        "float interval": lambda: float_interval(loaded, images, radius),
        "exact": lambda: exact(prover, images, radius),
    }
    seconds = dict.fromkeys(methods, math.inf)
    certified = {}
    for _ in range(turns):
        for name, count in methods.items():
            start = time.perf_counter()
            certified[name] = count()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    kernel = kernels.backend().cpu
    print(f"{len(images):,} images at eps {radius}, {torch.get_num_threads()} threads, {kernel}")
    for name, least in seconds.items():
        rate = len(images) / least
        print(f"{name:>15}: {least:.3f} s, {rate:>7,.0f} images/s, {certified[name]:,} certified")
    print(f"{'ratio':>15}: {seconds['float interval'] / seconds['exact']:.2f}")


def float_interval(loaded: LoadedNetwork, images: ImageSet, eps: Fraction) -> int:
    """Images that float32 bounds over the ball prove."""
    prover = FloatProver(loaded.network, loaded.normalisation)
    level = prover.level_above(eps)
    count = 0
    for some, labels in _batches(images):
        radius = torch.full((len(some),), level, dtype=torch.float64, device=images.device)
        count += int((prover.by_box(some, radius, labels) > 0).sum())
    return count


def exact(prover: ExactProver, images: ImageSet, eps: Fraction) -> int:
    """Images that whole numbers prove, by margin or by box."""
    level = prover.level_above(eps)
    count = 0
    for some, labels in _batches(images):
        proof = prover.by_margin(some, labels)
        is_open = (proof.margin > 0) & (proof.radius < level)
        rest = torch.full((int(is_open.sum()),), level, device=images.device)
        by_box = prover.by_box(some[is_open], rest, labels[is_open])
        count += int((proof.radius >= level).sum() + (by_box >= level).sum())
    return count


def _batches(images: ImageSet) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        yield images.images[rows], images.labels[rows]
