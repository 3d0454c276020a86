"""What "certified" means for a distance network evaluated in float32.

B batch, K classes, y true class, e error bound, u = 2^-24 unit roundoff of float32.

Each logit is 1-Lipschitz for the sup norm, so the label keeps the lead in the whole ball of radius
eps if its margin exceeds 2 eps_input. Float32 only approximates the network; `float_slack` bounds
by how much, and the slack comes off the margin. What is left proves two statements about every
image of the ball: the network in real arithmetic answers with the label, and so does the float32
network as it runs here.
"""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.images import Normalisation

if TYPE_CHECKING:
    from stages.models.linf.heads.distance import DistanceHead
    from stages.models.linf.network import LinfNetwork

UNIT_ROUNDOFF = 2.0**-24
SUBNORMAL = 2.0**-120
"""More than one operation can lose where subnormal float32 numbers are flushed to zero."""


@dataclass(frozen=True)
class Reached:
    """Features over every image there is, and every box around one that is rounded outwards."""

    box: Box
    """(1, F), of float32 features at p = infinity."""
    error: float
    """Bound on |float32 feature - real feature|; proof: `logit_error`."""

    @property
    def largest(self) -> float:
        """Bound on |float32 feature|."""
        return rounded_up(_largest(*self.box) + self.error)


@torch.no_grad()
def features_reached(network: "LinfNetwork", normalisation: Normalisation) -> Reached:
    """Follow every image, and the error of rounding, through the hidden layers.

    Args:
        network: in evaluation mode, float32, weights finite.
        normalisation: what the network expects of its images.

    Raises:
        ValueError: the network is in training mode.
    """
    if network.training:
        raise ValueError("rounding is bounded in evaluation mode only: call network.eval() first")
    device = next(network.parameters()).device
    box = _every_image(network, normalisation, device)
    error = normalisation_error(normalisation, str(device))
    for layer in network.hidden:
        box = layer.distance.bounds(*box)
        error = _after(error, *box)
        box = layer.centering.bounds(*box)
        error = _after(error, *box)
    return Reached(box, error)


def float_slack(head: "DistanceHead", reached: Reached) -> float:
    """How much of a float32 margin may be rounding: one figure for every image there is.

    A margin has two logits, each within `logit_error` of the truth; and the ball has two points
    where float32 rounds: the image, whose margin is measured, and the perturbed image, where the
    float32 network itself must still answer with the label. So the slack is four errors.

    Args:
        head: in evaluation mode, float32, weights finite.
        reached: by its features.

    Returns:
        The slack in units of logits, to be subtracted from a margin.
    """
    return 4 * logit_error(head, reached)


@torch.no_grad()
def logit_error(head: "DistanceHead", reached: Reached) -> float:
    """Bound on |float32 logit - real logit| over every image with pixels in [0, 1].

    Proof. The network is a chain of operations of two kinds: the distances max_i |h_i - w_oi|, and
    adding a constant (minus the running mean, plus the bias). Both are 1-Lipschitz for the sup norm
    in h, both round once per number (one subtraction; absolute value, maximum and negation are
    exact, and rounding is monotone, so the maximum of rounded numbers is the rounded maximum).
    Let e bound the error before an operation, A the absolute value of its real result. The
    operation applied to the computed input gives at most A + e, so the error afterwards is

        e' <= e + u (A + e) + SUBNORMAL.

    A is read off a box that holds every image, pushed through the same operations in float32. The
    ends of a box round as numbers do, so the computed end A~ obeys A <= A~ + e', which gives

        e' = ((1 + u) e + u A~ + SUBNORMAL) / (1 - u).

    Args: see `float_slack`.
    """
    lower, upper = head.distance.bounds(*reached.box)
    error = _after(reached.error, lower, upper)
    error = _after(error, lower + head.bias, upper + head.bias)
    return rounded_up(error)


def margin_radius(margins: Tensor, slack: float, std: float) -> Tensor:
    """Radius up to which the margin proves the label: (margin - slack) * std / 2, rounded down.

    Args:
        margins: float64 (B,), from `margin`.
        slack: from `float_slack` of the same network.
        std: the normalisation's.

    Returns:
        float64 (B,) in pixels of [0, 1]: proved at every eps < radius, strictly; 0 proves nothing.
    """
    return _lead(margins, slack) * (std / 2) * (1 - 2.0**-50)


def _every_image(network: "LinfNetwork", normalisation: Normalisation, device: torch.device) -> Box:
    """A box (1, I) that holds every image, and every box around one that is rounded outwards."""
    ends = torch.stack(normalisation.pixel_box(device)).flatten(1)
    per_channel = network.num_inputs // len(normalisation.mean)
    lower, upper = ends.repeat_interleave(per_channel, 1)[:, None]
    room = 2.0**-16 * (1 + _largest(lower, upper))
    return Box(lower - room, upper + room)


def _after(error: float, lower: Tensor, upper: Tensor) -> float:
    u = UNIT_ROUNDOFF
    return ((1 + u) * error + u * _largest(lower, upper) + SUBNORMAL) / (1 - u)


def _largest(lower: Tensor, upper: Tensor) -> float:
    return max(lower.abs().max().item(), upper.abs().max().item())


def rounded_up(value: float) -> float:
    """Covers the float64 rounding of some hundred operations on non-negative numbers."""
    return value * (1 + 2.0**-40)


def _lead(margins: Tensor, slack: float) -> Tensor:
    """The margin less the slack, rounded down; 0 where that is not a positive, finite number."""
    lead = (margins - slack) * (1 - 2.0**-50)
    return torch.where((lead > 0) & lead.isfinite(), lead, 0.0)


@lru_cache
def normalisation_error(normalisation: Normalisation, device: str) -> float:
    """Largest |normalised - (v / 255 - mean) / std| over all 256 pixel values and all channels.

    Measured, with exact fractions, on the device that normalises.
    """
    values = torch.arange(256, dtype=torch.uint8, device=device)
    channels = len(normalisation.mean)
    found = normalisation.apply(values.view(-1, 1, 1, 1).expand(-1, channels, 1, 1))
    worst = Fraction(0)
    for value, row in enumerate(found[:, :, 0, 0].tolist()):
        for entry, mean in zip(row, normalisation.mean, strict=True):
            exact = (Fraction(value, 255) - Fraction(mean)) / Fraction(normalisation.std)
            worst = max(worst, abs(Fraction(entry) - exact))
    return rounded_up(float(worst))
