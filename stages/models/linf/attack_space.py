"""Where an attack moves, and who judges it: the points of a ball that a network can be asked about.

B batch, C channels, H x W pixels. A point is exactly an image of the ball, without any "up to
rounding": in the space of an integer network a valid pixel in whole units, else a float32 input.
"""

import math
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.images import Normalisation
from stages.models.linf.ball import InnerBall
from stages.models.linf.exact_prover import ExactProver
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.network import LinfNetwork
from stages.models.margin import margin


class _Gradients:
    """The float32 network that gradients are taken through, at any norm p of its layers."""

    surrogates = (128.0, 32.0, 8.0, math.inf)
    itself = math.inf
    is_box = True

    def __init__(self, network: LinfNetwork) -> None:
        self._network = network

    def has_surrogate(self, surrogate: float) -> bool:
        """Whether it is a norm from 2 to 1000, or infinity."""
        return 2 <= surrogate <= 1000 or surrogate == math.inf

    def logits(self, inputs: Tensor, surrogate: float) -> Tensor:
        """See `AttackSpace`."""
        logits: Tensor = self._network(inputs, surrogate)
        return logits


class FloatSpace(_Gradients):
    """Points are the float32 inputs inside the ball.

    Raises:
        UserError: the ball has no float32 input.
    """

    def __init__(
        self,
        network: LinfNetwork,
        prover: FloatProver,
        normalisation: Normalisation,
        eps: Fraction,
    ) -> None:
        super().__init__(network)
        self._stride = normalisation.eps_input(eps) / 4
        self._prover, self._normalisation = prover, normalisation
        self._ball = InnerBall(eps, normalisation, next(network.parameters()).device)

    def ball(self, images: Tensor) -> Box:
        """See `AttackSpace`."""
        return self._ball.around(images)

    def centre(self, images: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._normalisation.apply(images).clamp(*self.ball(images))

    def step(self, points: Tensor, gradient: Tensor, ball: Box) -> Tensor:
        """See `AttackSpace`; a step is a quarter of the radius."""
        return torch.clamp(points + self._stride * _uphill(gradient), ball.lower, ball.upper)

    def between(self, ball: Box, share: Tensor) -> Tensor:
        """See `AttackSpace`."""
        point = ball.lower + share * (ball.upper - ball.lower)
        return point.clamp(ball.lower, ball.upper)

    def inputs(self, points: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return points

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return margin(self._prover.logits(points), labels).nan_to_num(nan=-torch.inf)


class IntegerSpace(_Gradients):
    """Points are images whose pixels are whole units of an integer network."""

    def __init__(
        self,
        network: LinfNetwork,
        integer_network: IntegerNetwork,
        prover: ExactProver,
        eps: Fraction,
    ) -> None:
        super().__init__(network)
        self._grid, self._prover = integer_network, prover
        self._reach = floor(eps * integer_network.units_per_pixel)
        self._stride = -(-self._reach // 4)
        normalisation = integer_network.normalisation
        mean = torch.tensor(normalisation.mean, device=integer_network.device) / normalisation.std
        self._shift = mean.view(-1, 1, 1)

    def ball(self, images: Tensor) -> Box:
        """See `AttackSpace`."""
        reach = torch.full((len(images),), 2 * self._reach, device=images.device)
        return self._prover.box_around(images, reach)

    def centre(self, images: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._grid.points(images)

    def step(self, points: Tensor, gradient: Tensor, ball: Box) -> Tensor:
        """See `AttackSpace`; a step is a quarter of the radius."""
        # In 32 bits: a step beyond the pixels need not fit the network's own.
        moved = points.int() + self._stride * _uphill(gradient).int()
        return moved.clamp(ball.lower.int(), ball.upper.int()).to(points.dtype)

    def between(self, ball: Box, share: Tensor) -> Tensor:
        """See `AttackSpace`."""
        choices = ball.upper.double() - ball.lower + 1
        return ball.lower + (share * choices).floor().to(ball.lower.dtype)

    def inputs(self, points: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return points * self._grid.unit - self._shift

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._prover.margins(points, labels)


def _uphill(gradient: Tensor) -> Tensor:
    """-1, 0 or 1 for every pixel."""
    return gradient.sign().nan_to_num(nan=0.0)
