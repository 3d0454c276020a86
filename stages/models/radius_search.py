"""The interval certificate: the ball without its invalid images, pushed through as a box."""

from collections.abc import Callable

import torch
from torch import Tensor


def extend_radius(
    prove: Callable[[Tensor, Tensor], Tensor], radius: Tensor, levels: Tensor, num_steps: int
) -> Tensor:
    """Raise radii that are already proved by what boxes of valid pixels prove.

    Each image climbs from level to level until one is not proved; then the gap between the last
    proof and that level is bisected. Beyond the last level nothing is tried.

    Args:
        prove: from rows (indices into `radius`) and the radii to try there to the radii proved: at
            least what was tried, or 0 where that is not proved.
        radius: (B,), proved by other means; 0 where nothing is. Float64, or int64 in some unit.
        levels: upwards, of the same dtype: for each eps of interest the smallest number above it.
        num_steps: bisections of the gap.

    Returns:
        (B,), at least `radius`: proved at every eps < radius.
    """
    proved = radius.clone()
    climbing = torch.arange(len(radius), device=radius.device)
    stopped, ceiling = [climbing[:0]], [proved[:0]]
    while True:
        index = torch.searchsorted(levels, proved[climbing], right=True)
        climbing, index = climbing[index < len(levels)], index[index < len(levels)]
        if len(climbing) == 0:
            break
        found = prove(climbing, levels[index])
        is_proved = found > 0
        proved[climbing] = torch.maximum(proved[climbing], found)
        stopped.append(climbing[~is_proved])
        ceiling.append(levels[index[~is_proved]])
        climbing = climbing[is_proved]
    _bisect(prove, proved, torch.cat(stopped), torch.cat(ceiling), num_steps)
    return proved


def _bisect(
    prove: Callable[[Tensor, Tensor], Tensor],
    proved: Tensor,
    rows: Tensor,
    ceiling: Tensor,
    num_steps: int,
) -> None:
    """Raise `proved` in place at some rows, each towards a ceiling that is not proved."""
    for _ in range(num_steps if len(rows) else 0):
        tried = (proved[rows] + ceiling).div(2, rounding_mode=_rounding(ceiling))
        found = prove(rows, tried)
        proved[rows] = torch.maximum(proved[rows], found)
        ceiling = torch.where(found > 0, ceiling, tried)


def _rounding(numbers: Tensor) -> str | None:
    return None if numbers.is_floating_point() else "floor"
