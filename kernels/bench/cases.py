"""The operands that are timed: random ones, and those of a trained network's layers."""

import argparse
import gzip
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kernels import ops

SHAPES = ((128, 1024, 1024), (64, 5120, 512))
"""(B, I, O) of the random operands."""
NORMS = (8.0, 9.3, 37.5, 300.5, math.inf)
TRAINED_BATCH = 512
TRAINED_NORMS = (37.0, 300.0)
IDX_HEADER_BYTES = 16


@dataclass(frozen=True)
class Case:
    """Operands and a norm."""

    name: str
    x: Tensor
    weight: Tensor
    p: float

    @property
    def num_elements(self) -> int:
        """Number of (sample, output, input) triples."""
        return self.x.shape[0] * self.weight.numel()


def parse_with_network(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parse the command line, with a trained network and its images among the options."""
    parser.add_argument(
        "--network", type=Path, metavar="FILE", help="network.safetensors as training writes it"
    )
    parser.add_argument("--images", type=Path, metavar="FILE", help="its images, gzipped IDX")
    args = parser.parse_args()
    if bool(args.network) != bool(args.images):
        parser.error("--network and --images belong together")
    for path in (args.network, args.images):
        if path and not path.is_file():
            parser.error(f"there is no file {path}")
    return args


def random_cases() -> Iterator[Case]:
    """Yield normally distributed operands: nearly every input matters."""
    for batch, num_inputs, num_outputs in SHAPES:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, num_inputs, generator=generator)
        weight = torch.randn(num_outputs, num_inputs, generator=generator)
        for p in NORMS:
            yield Case(f"{batch}, {num_inputs} -> {num_outputs}", x, weight, p)


def trained_cases(network_path: Path, images_path: Path) -> Iterator[Case]:
    """Yield the hidden layers of a trained network, each with the activations that reach it.

    Args:
        network_path: ``network.safetensors`` as training writes it; hidden layers of distances,
            each followed by the subtraction of the batch's mean.
        images_path: Images of its data set, a gzipped IDX file.
    """
    # Not needed to use the operators, so not imported for them.
    from safetensors.torch import load_file  # noqa: PLC0415

    tensors = load_file(network_path)
    weights = [tensors[name] for name in sorted(tensors) if name.endswith("distance.weight")]
    for p in TRAINED_NORMS:
        x = _images(images_path, weights[0].shape[1])
        for layer, weight in enumerate(weights, 1):
            batch, (num_outputs, num_inputs) = x.shape[0], weight.shape
            yield Case(f"layer {layer}: {batch}, {num_inputs} -> {num_outputs}", x, weight, p)
            distance = ops.lp_distance(x, weight, p)
            x = distance - distance.mean(0)


def _images(path: Path, num_pixels: int) -> Tensor:
    """The first images, (TRAINED_BATCH, num_pixels), with mean 0 and deviation 1."""
    with gzip.open(path) as file:
        data = bytearray(file.read(IDX_HEADER_BYTES + TRAINED_BATCH * num_pixels))
    pixels = torch.frombuffer(data, dtype=torch.uint8, offset=IDX_HEADER_BYTES)
    images = pixels.reshape(-1, num_pixels).float()
    return (images - images.mean()) / images.std()
