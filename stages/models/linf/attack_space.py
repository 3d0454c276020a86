"""Where an attack moves, and who judges it: the points of a ball that a network can be asked about.

B batch, C channels, H x W pixels. A point is exactly an image of the ball, without any "up to
rounding": in the space of an integer network a valid pixel in whole units, else a float32 input.
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from math import floor

import torch
from torch import Tensor

from kernels.layers import Box
from stages.models.images import Normalisation
from stages.models.linf.ball import InnerBall
from stages.models.linf.exact_certifier import ExactProver
from stages.models.linf.float_certifier import Prover
from stages.models.linf.float_error import margin
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.network import DistanceNetwork


class AttackSpace(ABC):
    """The points around images, a network for gradients, and a judge; all of the same weights."""

    network: DistanceNetwork
    """Float32: gradients at any p."""

    @abstractmethod
    def ball(self, images: Tensor) -> Box:
        """The box of all points in each image's ball, (B, C, H, W) twice, of uint8 images."""

    @abstractmethod
    def centre(self, images: Tensor) -> Tensor:
        """The images themselves as points."""

    @abstractmethod
    def step(self, points: Tensor, uphill: Tensor, ball: Box) -> Tensor:
        """Points a step further, clamped to the ball, which projects exactly.

        A step is a quarter of the radius: four lead from the image to the edge of the ball.

        Args:
            points: (B, C, H, W).
            uphill: float32 (B, C, H, W), each -1, 0 or 1.
            ball: that of each point's image.
        """

    @abstractmethod
    def between(self, ball: Box, share: Tensor) -> Tensor:
        """Points at `share`, float32 in [0, 1), of the way from lower to upper."""

    @abstractmethod
    def inputs(self, points: Tensor) -> Tensor:
        """Points as the float32 network's inputs."""

    @abstractmethod
    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """Margins, float64 (B,); not above 0 means broken."""


class FloatSpace(AttackSpace):
    """Points are the float32 inputs inside the ball."""

    def __init__(
        self,
        network: DistanceNetwork,
        prover: Prover,
        normalisation: Normalisation,
        eps: Fraction,
    ) -> None:
        self.network = network
        self._stride = normalisation.eps_input(eps) / 4
        self._prover, self._normalisation = prover, normalisation
        self._ball = InnerBall(eps, normalisation, next(network.parameters()).device)

    def ball(self, images: Tensor) -> Box:
        """See `AttackSpace`."""
        return self._ball.around(images)

    def centre(self, images: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._normalisation.apply(images).clamp(*self.ball(images))

    def step(self, points: Tensor, uphill: Tensor, ball: Box) -> Tensor:
        """See `AttackSpace`."""
        return torch.clamp(points + self._stride * uphill, ball.lower, ball.upper)

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


class IntegerSpace(AttackSpace):
    """Points are images whose pixels are whole units of an integer network."""

    def __init__(
        self,
        network: DistanceNetwork,
        integer_network: IntegerNetwork,
        prover: ExactProver,
        eps: Fraction,
    ) -> None:
        self.network = network
        self._grid, self._prover = integer_network, prover
        self._reach = floor(eps * integer_network.units_per_pixel)
        self._stride = -(-self._reach // 4)
        normalisation, units = integer_network.normalisation, integer_network.units_per_pixel
        device = integer_network.device
        self._scale = 1 / (units * normalisation.std)
        mean = torch.tensor(normalisation.mean, device=device) / normalisation.std
        self._shift = mean.view(-1, 1, 1)

    def ball(self, images: Tensor) -> Box:
        """See `AttackSpace`."""
        reach = torch.full((len(images),), 2 * self._reach, device=images.device)
        return self._prover.box_around(images, reach)

    def centre(self, images: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._grid.points(images)

    def step(self, points: Tensor, uphill: Tensor, ball: Box) -> Tensor:
        """See `AttackSpace`."""
        # In 32 bits: a step beyond the pixels need not fit the network's own.
        moved = points.int() + self._stride * uphill.int()
        return moved.clamp(ball.lower.int(), ball.upper.int()).to(points.dtype)

    def between(self, ball: Box, share: Tensor) -> Tensor:
        """See `AttackSpace`."""
        choices = ball.upper.double() - ball.lower + 1
        return ball.lower + (share * choices).floor().to(ball.lower.dtype)

    def inputs(self, points: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return points * self._scale - self._shift

    def margins(self, points: Tensor, labels: Tensor) -> Tensor:
        """See `AttackSpace`."""
        return self._prover.margins(points, labels)
