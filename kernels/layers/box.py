"""Boxes: what is known of an activation when only the ends of each coordinate are known."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Box(NamedTuple):
    """All x with ``lower <= x <= upper``, by coordinate. A pair: ``lower, upper = box``."""

    lower: Tensor
    """Lower ends, (B, ...)."""
    upper: Tensor
    """Upper ends, of the same shape."""
