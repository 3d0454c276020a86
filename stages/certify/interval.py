"""The interval certificate: the ball without its invalid images, pushed through as a box."""

from collections.abc import Iterable
from fractions import Fraction

import torch
from torch import Tensor

from stages.certify.ball import box_around
from stages.models.margins import largest_float_up_to
from stages.models.normalisation import Normalisation
from stages.models.provers import Prover


def levels_above(grid: Iterable[Fraction], device: torch.device) -> Tensor:
    """For each radius of a grid the smallest float64 above it: a proof there is a proof at it.

    Returns:
        float64, upwards.
    """
    radii = torch.tensor([largest_float_up_to(eps) for eps in sorted(grid)], dtype=torch.float64)
    return torch.nextafter(radii, torch.tensor(torch.inf, dtype=torch.float64)).to(device)


def raise_radius(
    prover: Prover,
    normalisation: Normalisation,
    images: Tensor,
    labels: Tensor,
    radius: Tensor,
    levels: Tensor,
    num_steps: int,
) -> Tensor:
    """Raise radii that are already proved by what boxes of valid pixels prove.

    Each image climbs from level to level until one is not proved; then the gap between the last
    proof and that level is bisected. Beyond the last level nothing is tried.

    Args:
        prover: of the network.
        normalisation: what the network expects.
        images: uint8 (B, C, H, W), all of them classified right.
        labels: int64 (B,).
        radius: float64 (B,), proved by other means; 0 where nothing is.
        levels: float64, upwards, from `levels_above`.
        num_steps: bisections of the gap.

    Returns:
        float64 (B,), at least `radius`: proved at every eps < radius.
    """

    def proves(rows: Tensor, tried: Tensor) -> Tensor:
        return prover.proves_box(box_around(images[rows], tried, normalisation), labels[rows])

    proved, ceiling = radius.clone(), torch.full_like(radius, torch.inf)
    climbing = torch.arange(len(radius), device=radius.device)
    while True:
        index = torch.searchsorted(levels, proved[climbing], right=True)
        climbing, index = climbing[index < len(levels)], index[index < len(levels)]
        if len(climbing) == 0:
            break
        tried = levels[index]
        is_proved = proves(climbing, tried)
        proved[climbing[is_proved]] = tried[is_proved]
        ceiling[climbing[~is_proved]] = tried[~is_proved]
        climbing = climbing[is_proved]

    stopped = ceiling.isfinite().nonzero()[:, 0]
    for _ in range(num_steps if len(stopped) else 0):
        tried = (proved[stopped] + ceiling[stopped]) / 2
        is_proved = proves(stopped, tried)
        proved[stopped] = torch.where(is_proved, tried, proved[stopped])
        ceiling[stopped] = torch.where(is_proved, ceiling[stopped], tried)
    return proved
