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

    @classmethod
    def ball(cls, centre: Tensor, radius: float) -> Box:
        """Return the l_inf ball around ``centre``.

        Args:
            centre: Centres, (B, ...).
            radius: Radius in the units of ``centre``, at least 0.

        Returns:
            The box; its ends are rounded to nearest: a sound certificate adds the rounding itself.

        Raises:
            ValueError: A negative or NaN radius.
        """
        if not radius >= 0:
            raise ValueError(f"Box.ball: radius is {radius}; it must be at least 0.")
        return cls(centre - radius, centre + radius)

    def clamp(self, smallest: Tensor | float, largest: Tensor | float) -> Box:
        """Return the part of the box inside ``[smallest, largest]`` (say, the valid pixels)."""
        return Box(*(end.clamp(min=smallest).clamp(max=largest) for end in self))
