"""The head of a hybrid, Linear - tanh - Linear, bounded over a box in float64, rounded outwards.

B batch, F features, H hidden units, K classes, y true class, u = 2^-53 unit roundoff of float64.
A sum of n products, in whatever order and with or without fused steps, is off by at most gamma_n
times the sum of their absolute values, gamma_n = n u / (1 - n u). Weights are float32 and so exact
in float64.
"""

import torch
from torch import Tensor, nn

ROUNDOFF = 2.0**-53
TANH_ERROR = 2.0**-50
"""Relative error allowed to float64 tanh: four units in the last place; libraries say two."""
FEW = 2.0**-50
"""Covers a handful of float64 roundings, relative to the size of the operands."""
SUBNORMAL = 2.0**-1000
MOST_ELEMENTS = 1 << 24
"""Merged difference rows held at a time, in float64 numbers: 128 MiB."""


class HeadBounds:
    """Evaluates and bounds one head; every bound holds for real arithmetic.

    Args:
        first: Linear from F features to H units.
        second: Linear from H units to K logits.
    """

    def __init__(self, first: nn.Linear, second: nn.Linear) -> None:
        self._weight1, self._bias1 = _float64(first)
        self._weight2, self._bias2 = _float64(second)
        self._gamma1 = _gamma(first.in_features + 2)
        self._gamma2 = _gamma(second.in_features + 2)
        self._size1 = self._weight1.abs()
        size2 = self._weight2.abs().sum(1) + self._bias2.abs()
        self._error2 = self._gamma2 * size2 * (1 + FEW + 2 * self._gamma2)

    def logits(self, features: Tensor) -> Tensor:
        """The head in float64, within `evaluation_error` of real arithmetic.

        Args:
            features: (B, F).

        Returns:
            float64 (B, K).
        """
        hidden = (features.double() @ self._weight1.T + self._bias1).tanh()
        return hidden @ self._weight2.T + self._bias2

    def evaluation_error(self, largest_feature: float) -> float:
        """Bound on |`logits` - real logits| where no feature is larger than `largest_feature`."""
        size = self._size1.sum(1) * largest_feature + self._bias1.abs()
        hidden_error = self._gamma1 * (1 + self._gamma1) * size + TANH_ERROR + SUBNORMAL
        error = self._weight2.abs() @ hidden_error + self._error2
        return float(error.max()) * 1.01

    def before_tanh(self, centre: Tensor) -> tuple[Tensor, Tensor]:
        """First linear layer at the centre of a box, and how far it may be off by rounding.

        Args:
            centre: float64 (B, F).

        Returns:
            Two float64 (B, H).
        """
        size = centre.abs() @ self._size1.T + self._bias1.abs()
        error = self._gamma1 * (1 + 2 * self._gamma1) * size + SUBNORMAL
        return centre @ self._weight1.T + self._bias1, error

    def spread(self, half_width: Tensor) -> Tensor:
        """How far the first linear layer moves over a box, rounded up.

        Args:
            half_width: float64, (B, F), or (B, 1) for a cube.

        Returns:
            float64 (B, H).
        """
        if half_width.shape[1] == 1:
            moved = half_width * self._size1.sum(1)
        else:
            moved = half_width @ self._size1.T
        return moved * (1 + 2 * self._gamma1)

    def worst_difference(self, middle: Tensor, reach: Tensor, labels: Tensor) -> Tensor:
        """Upper bound on max over j != y of z_j - z_y while the first layer stays in a box.

        The rows W_j - W_y are merged before bounding: y's share cancels, which is tighter than
        bounding each logit.

        Args:
            middle: float64 (B, H), centre of the box before tanh.
            reach: float64 (B, H), at least its half-width.
            labels: int64 (B,).

        Returns:
            float64 (B,): below 0 proves the label.
        """
        room = FEW * (middle.abs() + reach)
        lower = _widened((middle - reach - room).tanh(), -1)
        upper = _widened((middle + reach + room).tanh(), +1)
        centre, half = (lower + upper) / 2, (upper - lower) / 2 + FEW
        logits = centre @ self._weight2.T + self._bias2
        per_image = max(1, MOST_ELEMENTS // self._weight2.numel())
        pieces = zip(torch.split(half, per_image), torch.split(labels, per_image), strict=True)
        spread = torch.cat([self._merged_spread(*piece) for piece in pieces])
        own, own_error = logits.gather(1, labels[:, None]), self._error2[labels][:, None]
        slack = spread * (1 + 2 * self._gamma2) + self._error2 + own_error
        worst = logits - own + slack + FEW * (logits.abs() + own.abs() + slack)
        return worst.scatter(1, labels[:, None], -torch.inf).amax(1)

    def _merged_spread(self, half: Tensor, labels: Tensor) -> Tensor:
        """Sum over hidden units of |W_j - W_y| half, (B, K)."""
        rows = (self._weight2 - self._weight2[labels][:, None]).abs()
        return (rows @ half[:, :, None])[:, :, 0]


def _float64(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer.weight.detach().double(), layer.bias.detach().double()


def _gamma(num_terms: int) -> float:
    return num_terms * ROUNDOFF / (1 - num_terms * ROUNDOFF) * (1 + FEW)


def _widened(value: Tensor, direction: int) -> Tensor:
    return value + direction * (value.abs() * TANH_ERROR + SUBNORMAL)
