"""What "certified" means for a distance network evaluated in float32.

B batch, K classes, y true class, e error bound, u = 2^-24 unit roundoff of float32.

Each logit is 1-Lipschitz for the sup norm, so the label keeps the lead in the whole ball of radius
eps if its margin exceeds 2 eps_input. Float32 only approximates the network; `float_slack` bounds
by how much, and the slack comes off the margin. What is left proves two statements about every
image of the ball: the network in real arithmetic answers with the label, and so does the float32
network as it runs here.
"""

from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from stages.data.radius import largest_float_up_to
from stages.models.images import Normalisation
from stages.models.linf.network import DistanceMLP, DistanceNetwork

UNIT_ROUNDOFF = 2.0**-24
SUBNORMAL = 2.0**-120
"""More than one operation can lose where subnormal float32 numbers are flushed to zero."""


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label minus the largest other logit, rounded down.

    Args:
        logits: float32 or float64 (B, K), K >= 2.
        labels: int64 (B,).

    Returns:
        float64 (B,); NaN where a logit is NaN.
    """
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    difference = own[:, 0] - others.amax(1)
    return difference - difference.abs() * 2.0**-52


def predicted_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """Class of the largest logit; a tie goes to the class that is not the label.

    Args:
        logits: (B, K), K >= 2.
        labels: int64 (B,).

    Returns:
        int64 (B,), equal to the label exactly where `margin` is above 0.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
    return torch.where(margin(logits, labels) > 0, labels, others)


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


def is_certified(radius: Tensor, eps: Fraction) -> Tensor:
    """Whether eps < radius, compared exactly.

    Args:
        radius: float64 (B,) in pixels.
        eps: radius in pixels.

    Returns:
        bool (B,).
    """
    # A float exceeds eps exactly if it exceeds the largest float that does not.
    return radius > largest_float_up_to(eps)


def float_slack(network: DistanceMLP, normalisation: Normalisation) -> float:
    """How much of a float32 margin may be rounding: one figure for every image there is.

    A margin has two logits, each within `logit_error` of the truth; and the ball has two points
    where float32 rounds: the image, whose margin is measured, and the perturbed image, where the
    float32 network itself must still answer with the label. So the slack is four errors.

    Args:
        network: in evaluation mode, float32, weights finite.
        normalisation: what the network expects of its images.

    Returns:
        The slack in units of logits, to be subtracted from a margin.

    Raises:
        ValueError: the network is in training mode.
    """
    return 4 * logit_error(network, normalisation)


def logit_error(network: DistanceMLP, normalisation: Normalisation) -> float:
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

    Args and Raises: see `float_slack`.
    """
    error, box = _through_hidden(network, normalisation)
    lower, upper = network.last.bounds(*box)
    error = _after(error, lower, upper)
    error = _after(error, lower + network.bias, upper + network.bias)
    return _rounded_up(error)


def feature_error(network: DistanceNetwork, normalisation: Normalisation) -> tuple[float, float]:
    """Bounds over every image on |float32 feature - real feature| and on |float32 feature|.

    The features are what the hidden distance layers hand to the head; proof: `logit_error`.
    """
    error, (lower, upper) = _through_hidden(network, normalisation)
    return _rounded_up(error), _rounded_up(_largest(lower, upper) + error)


def _through_hidden(
    network: DistanceNetwork, normalisation: Normalisation
) -> tuple[float, tuple[Tensor, Tensor]]:
    if network.training:
        raise ValueError("rounding is bounded in evaluation mode only: call network.eval() first")
    device = next(network.parameters()).device
    lower, upper = _every_image(network, normalisation, device)
    error = normalisation_error(normalisation, str(device))
    with torch.no_grad():
        for layer in network.hidden:
            lower, upper = layer.distance.bounds(lower, upper)
            error = _after(error, lower, upper)
            lower, upper = layer.centering.bounds(lower, upper)
            error = _after(error, lower, upper)
    return error, (lower, upper)


def _every_image(
    network: DistanceNetwork, normalisation: Normalisation, device: torch.device
) -> tuple[Tensor, Tensor]:
    """A box (1, I) that holds every image, and every box around one that is rounded outwards."""
    ends = torch.stack(normalisation.pixel_box(device)).flatten(1)
    per_channel = network.num_inputs // len(normalisation.mean)
    lower, upper = ends.repeat_interleave(per_channel, 1)[:, None]
    room = 2.0**-16 * (1 + _largest(lower, upper))
    return lower - room, upper + room


def _after(error: float, lower: Tensor, upper: Tensor) -> float:
    u = UNIT_ROUNDOFF
    return ((1 + u) * error + u * _largest(lower, upper) + SUBNORMAL) / (1 - u)


def _largest(lower: Tensor, upper: Tensor) -> float:
    return max(lower.abs().max().item(), upper.abs().max().item())


def _rounded_up(value: float) -> float:
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
    return _rounded_up(float(worst))
