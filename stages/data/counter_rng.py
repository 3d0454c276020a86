"""Random numbers that depend on what they are for, never on what was drawn before.

Each number is a hash of a few words (seed, epoch, purpose) and a counter, such as an image's index.
So neither the number of ranks, nor the composition of a batch, nor a restart can change a draw, and
the numbers are the same in every version of numpy and torch and on every device.
"""

from enum import IntEnum
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Counters = TypeVar("Counters", NDArray[np.int64], "torch.Tensor")

_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_MASK = (1 << 64) - 1


class Stream(IntEnum):
    """What a draw decides; it is hashed in, so that two purposes never share numbers."""

    SPLIT = 1
    EPOCH_ORDER = 2
    AUGMENT = 3
    BLOCK_ORDER = 4
    POOL_ORDER = 5
    ATTACK = 6
    SQUARES = 7
    AUDIT = 8


def draw(counters: Counters, *words: int) -> Counters:
    """Return 64 random bits for each counter.

    The stream of splitmix64 (Steele, Lea, Flood 2014) that starts at a hash of the words, read at
    the counters.

    Args:
        counters: int64 numpy array or torch tensor of any shape.
        words: whole numbers that name the stream: purpose, seed, epoch, ...

    Returns:
        int64 of the same kind and shape; all 64 bits are random, the sign included.
    """
    key = 0
    for word in words:
        key = _mix_int((key + word + 1) * _GOLDEN & _MASK)
    return _mix(counters * _signed(_GOLDEN) + _signed(key))


def draw_below(counters: Counters, limit: int, *words: int) -> Counters:
    """Return for each counter a whole number in [0, limit), uniform to one part in 2^31 / limit.

    Args:
        counters: int64 array or tensor.
        limit: at least 1, below 2^31.
        words: as in `draw`.
    """
    top_31_bits = (draw(counters, *words) >> 33) & 0x7FFFFFFF
    return (top_31_bits * limit) >> 31


def permutation(num: int, *words: int) -> NDArray[np.int64]:
    """Return a random order of range(num), (num,) int64."""
    return np.argsort(draw(np.arange(num, dtype=np.int64), *words), kind="stable")


def _mix(x: Counters) -> Counters:
    # int64 products wrap in numpy and torch alike; >> keeps the sign, so high bits are masked off.
    x = (x ^ ((x >> 30) & (_MASK >> 30))) * _signed(_MULTIPLIERS[0])
    x = (x ^ ((x >> 27) & (_MASK >> 27))) * _signed(_MULTIPLIERS[1])
    return x ^ ((x >> 31) & (_MASK >> 31))


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * _MULTIPLIERS[0]) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLIERS[1]) & _MASK
    return x ^ (x >> 31)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >> 63 else x
