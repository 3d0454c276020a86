"""Random search without gradients: squares of pixels at the edge of the ball.

After Andriushchenko et al., Square Attack, ECCV 2020 (arXiv:1912.00049): start at vertical stripes,
set a random square of every channel to one end of the ball, keep it where the margin falls; the
squares shrink as the search goes on. It finds what gradients miss where those are masked.
"""

import math
from bisect import bisect_left

import torch
from torch import Tensor

from kernels.layers import Box
from stages.data.batches import Batch
from stages.data.counter_rng import Stream, draw, draw_below
from stages.models.certifier import AttackSpace

FIRST_SHARE = 0.8
"""Share of the image that the first squares cover."""
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Where in the search, from 0 to 1, that share halves."""


def search_squares(attack_space: AttackSpace, batch: Batch, num_queries: int, seed: int) -> Tensor:
    """The smallest margin that the search finds for each image.

    Args:
        attack_space: the points of the ball, and the judge.
        batch: the images, all of them classified right.
        num_queries: squares tried an image, after the stripes.
        seed: with an image's index decides what is tried.

    Returns:
        float64 (B,); infinity where nothing was tried.
    """
    worst = torch.full(
        batch.labels.shape, torch.inf, dtype=torch.float64, device=batch.labels.device
    )
    if num_queries == 0:
        return worst
    ball = attack_space.ball(batch.images)
    height, width = batch.images.shape[2:]
    x = _at_ends(ball, _signs(batch, (1, width), 0, seed))
    worst = attack_space.margins(x, batch.labels)
    for query in range(1, num_queries + 1):
        side = _side(query / num_queries, height, width)
        inside = _square(batch, side, query, seed)
        tried = torch.where(inside, _at_ends(ball, _signs(batch, (1, 1), query, seed)), x)
        margins = attack_space.margins(tried, batch.labels)
        is_better = margins < worst
        x = torch.where(is_better.view(-1, 1, 1, 1), tried, x)
        worst = torch.minimum(worst, margins)
        if not (worst > 0).any():
            break
    return worst


def _side(progress: float, height: int, width: int) -> int:
    share = FIRST_SHARE / 2.0 ** bisect_left(HALVINGS, progress)
    return max(1, min(round(math.sqrt(share * height * width)), height, width))


def _square(batch: Batch, side: int, query: int, seed: int) -> Tensor:
    """Bool (B, 1, H, W): a square at a random place in each image."""
    height, width = batch.images.shape[2:]
    top = draw_below(batch.indices, height - side + 1, Stream.SQUARES, seed, query, 1)
    left = draw_below(batch.indices, width - side + 1, Stream.SQUARES, seed, query, 2)
    return _spans(top, side, height)[:, None, :, None] & _spans(left, side, width)[:, None, None, :]


def _spans(first: Tensor, length: int, size: int) -> Tensor:
    """Bool (B, size): `length` places from `first` on."""
    places = torch.arange(size, device=first.device) - first[:, None]
    return (places >= 0) & (places < length)


def _signs(batch: Batch, shape: tuple[int, int], query: int, seed: int) -> Tensor:
    """Bool (B, C, *shape): which end of the ball."""
    size = batch.images.shape[1] * shape[0] * shape[1]
    counters = batch.indices[:, None] * size + torch.arange(size, device=batch.indices.device)
    bits = draw(counters, Stream.SQUARES, seed, query, 0) < 0
    return bits.view(len(batch), -1, *shape)


def _at_ends(ball: Box, is_upper: Tensor) -> Tensor:
    return torch.where(is_upper, ball.upper, ball.lower)
