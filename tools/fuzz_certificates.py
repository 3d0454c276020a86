"""Hunts for wrong certificates among random small networks, judged in exact arithmetic.

    supnorm fuzz-certificates --nets 10000

Networks are made to round badly: ties between classes, weights of any magnitude, large constants
that cancel. Each certified image is moved by just under its radius in every combination of
directions, and the network at that point is computed without rounding. The same hunt goes after
plain float32 certificates (margin > 2 eps, as computed), to show that it finds what is there.

B images of a network, I inputs, O outputs of a layer, P patterns of directions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import inf, lcm
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import StageError, UserError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.linf.quantise import quantise

NUM_IMAGES = 4
NORMALISATIONS = (
    Normalisation((0.286,), 0.352),
    Normalisation((0.1307,), 0.3081),
    Normalisation((0.0,), 1.0),
    Normalisation((7.3,), 0.01),
)

Whole = NDArray[Any]
"""Whole numbers: int64, or Python's own where those would not hold them."""


@dataclass(frozen=True)
class Case:
    """A small network and images to certify."""

    network: LinfNetwork
    normalisation: Normalisation
    images: Tensor
    """uint8 (B, 1, 1, I)."""
    fraction_bits: int


class Claim(NamedTuple):
    """What a method says of one image: its class, at every eps up to and including one."""

    image: int
    label: int
    eps: Fraction


class WholeLayer(NamedTuple):
    """max_i |x_i - weight_oi| - offset_o in whole numbers."""

    weight: Whole
    offset: Whole


@dataclass
class FuzzCounts:
    """What a hunt has come to."""

    nets: int = 0
    refused: int = 0
    claims: int = 0
    broken: int = 0


def draw_case(seed: int) -> Case:
    """A network with weights, running means and images that are hard to get right."""
    rng = np.random.default_rng(seed)
    inputs, width, depth, classes = (int(rng.integers(*ends)) for ends in _SIZES)
    settings = DistanceMLPSettings(kind="distance_mlp", width=width, depth=depth)
    network = build_network(settings, (1, inputs, 1), classes).eval().requires_grad_(False)
    normalisation = NORMALISATIONS[rng.integers(len(NORMALISATIONS))]
    style = _STYLES[rng.integers(len(_STYLES))]
    for tensor in network.state_dict().values():
        tensor.copy_(torch.from_numpy(style(rng, tuple(tensor.shape)).astype(np.float32)))
    images = rng.integers(0, 256, (NUM_IMAGES, 1, 1, inputs), dtype=np.uint8)
    images[0] = rng.choice([0, 255], (1, 1, inputs))
    return Case(network, normalisation, torch.from_numpy(images), int(rng.integers(13)))


def exact_claims(case: Case) -> tuple[list[Claim], list[WholeLayer], int]:
    """What method exact claims; its network, and how many units a pixel has, in quarter units."""
    shape = (1, case.images.shape[3], 1)
    network = quantise(case.network, case.normalisation, shape, case.fraction_bits)
    prover = ExactProver(network)
    first = prover.by_margin(case.images, torch.zeros(NUM_IMAGES, dtype=torch.int64))
    proof = prover.by_margin(case.images, first.predicted)
    by_box = prover.by_box(case.images, proof.radius * 5 // 4 + 1, proof.predicted)
    radius = torch.maximum(proof.radius, torch.where(proof.margin > 0, by_box, 0))
    claims = [
        Claim(image, label, Fraction(2 * half_units - 1, 2 * prover.ticks_per_pixel))
        for image, (label, half_units) in enumerate(
            zip(proof.predicted.tolist(), radius.tolist(), strict=True)
        )
        if half_units > 0
    ]
    layers = [
        WholeLayer(4 * layer.weights.numbers[0].long().numpy(), 4 * layer.offset.long().numpy())
        for layer in network.layers
    ]
    return claims, layers, 4 * network.units_per_pixel


def float_claims(case: Case) -> list[Claim]:
    """What method float claims: float32 margins less all that rounding could do."""
    prover = FloatProver(case.network, case.normalisation)
    labels = prover.logits(case.normalisation.apply(case.images)).argmax(1)
    radius = prover.by_margin(case.images, labels).radius
    return _just_below(labels, radius)


def plain_claims(case: Case) -> list[Claim]:
    """What float32 margins claim as they are: certified at eps if margin > 2 eps / std."""
    logits = case.network(case.normalisation.apply(case.images), inf)
    labels = logits.argmax(1)
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    margins = logits.gather(1, labels[:, None])[:, 0] - others
    std = case.normalisation.std
    claims = _just_below(labels, margins.double() * std / 2)
    two_eps = torch.tensor([2 * float(claim.eps) / std for claim in claims])
    rows = torch.tensor([claim.image for claim in claims], dtype=torch.int64)
    kept = (margins[rows] > two_eps).tolist()
    return [claim for claim, is_certified in zip(claims, kept, strict=True) if is_certified]


def real_layers(case: Case, claims: list[Claim]) -> tuple[list[WholeLayer], int]:
    """The float32 network over the reals, in pixels times one large whole number.

    Returns:
        The layers, and that number: a whole multiple of every denominator there is.
    """
    mean, std = Fraction(case.normalisation.mean[0]), Fraction(case.normalisation.std)
    offsets = [layer.centering.running_mean for layer in case.network.hidden]
    offsets.append(-case.network.head.get_parameter("bias"))
    pairs = [
        (layer.weights.numbers[0], offset)
        for layer, offset in zip(case.network.distances, offsets, strict=True)
    ]
    exact = []
    for number, (weight, offset) in enumerate(pairs):
        shift = Fraction(0) if number else mean
        rows = [[std * Fraction(w) + shift for w in row] for row in weight.tolist()]
        exact.append((rows, [std * Fraction(c) for c in offset.tolist()]))
    numbers = [x for rows, offsets in exact for row in [*rows, offsets] for x in row]
    eps = [claim.eps for claim in claims]
    scale = lcm(255, *(x.denominator for x in (*numbers, *eps)))
    layers = [
        WholeLayer(_objects(rows, scale), _objects(offsets, scale)) for rows, offsets in exact
    ]
    return layers, scale


def count_broken(case: Case, claims: list[Claim], layers: list[WholeLayer], per_pixel: int) -> int:
    """Claims with a point in their ball, and in [0, 1], where another class is as near.

    Args:
        case: its images.
        claims: eps * per_pixel is whole.
        layers: the network; the last one gives the distances to the classes.
        per_pixel: units of the layers in the whole range of a pixel.
    """
    num_inputs = case.images.shape[3]
    patterns = np.array(list(product((-1, 0, 1), repeat=num_inputs)), dtype=layers[0].weight.dtype)
    broken = 0
    for claim in claims:
        values = case.images[claim.image].flatten().tolist()
        centre = np.array([value * (per_pixel // 255) for value in values], patterns.dtype)
        points = np.clip(centre + patterns * int(claim.eps * per_pixel), 0, per_pixel)
        for layer in layers:
            points = abs(points[:, None] - layer.weight).max(2) - layer.offset
        others = np.delete(points, claim.label, 1).min(1)
        broken += bool((others <= points[:, claim.label]).any())
    return broken


def hunt(method: str, num_nets: int, seed: int) -> FuzzCounts:
    """Hunt one method's wrong certificates.

    Args:
        method: `exact`, `float` or `plain`.
        num_nets: networks.
        seed: of the first; the others follow it.
    """
    counts = FuzzCounts()
    for number in range(num_nets):
        case = draw_case(seed + number)
        counts.nets += 1
        try:
            if method == "exact":
                claims, layers, per_pixel = exact_claims(case)
            else:
                claims = (float_claims if method == "float" else plain_claims)(case)
                layers, per_pixel = real_layers(case, claims)
        except UserError:
            counts.refused += 1
            continue
        counts.claims += len(claims)
        counts.broken += count_broken(case, claims, layers, per_pixel)
    return counts


def fuzz_certificates(
    nets: Annotated[int, typer.Option(min=1, help="Networks for each method.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of the first network.")] = 0,
) -> None:
    """Look for wrong certificates among random small networks, in exact arithmetic."""
    print(f"{'method':>8} {'networks':>9} {'refused':>8} {'certified':>10} {'broken':>7}")
    broken = {}
    for method in ("exact", "float", "plain"):
        counts = hunt(method, nets, seed)
        broken[method] = counts.broken
        print(
            f"{method:>8} {counts.nets:>9,} {counts.refused:>8,} {counts.claims:>10,} "
            f"{counts.broken:>7,}",
            flush=True,
        )
    if broken["exact"] or broken["float"]:
        raise StageError("certificates are wrong: no figure of these methods can be trusted")
    if not broken["plain"]:
        raise StageError("plain float32 certificates were not broken either: hunt more networks")


def _just_below(labels: Tensor, radius: Tensor) -> list[Claim]:
    return [
        Claim(image, label, Fraction(value * (1 - 2.0**-22)))
        for image, (label, value) in enumerate(zip(labels.tolist(), radius.tolist(), strict=True))
        if 0 < value < inf
    ]


def _objects(numbers: Any, scale: int) -> Whole:
    """Nested lists of fractions, times `scale`, as an array of Python integers."""
    exact = np.array(numbers, dtype=object)
    whole = [int(x * scale) for x in exact.flat]
    return np.array(whole, dtype=object).reshape(exact.shape)


_SIZES = ((1, 4), (1, 5), (1, 4), (2, 4))
"""Inputs, width, depth, classes: from, and below."""

Style = Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]]

_STYLES: tuple[Style, ...] = (
    lambda rng, shape: rng.normal(size=shape),
    # Huge and tiny.
    lambda rng, shape: rng.normal(size=shape) * 10.0 ** rng.integers(-6, 7),
    # Few values: ties of classes and of inputs.
    lambda rng, shape: rng.choice([-1.0, 0.0, 0.5, 1.0], shape),
    # Decimals, none of them a binary fraction.
    lambda rng, shape: rng.integers(-30, 31, shape) * 0.1,
    # A constant that cancels, and takes the last bits with it.
    lambda rng, shape: 1000.0 * rng.choice([-1, 1]) + rng.normal(size=shape),
    # Grey levels, as the images have them.
    lambda rng, shape: rng.integers(0, 256, shape) / 255,
)
