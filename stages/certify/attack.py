"""The attack: projected gradient descent through the network at several p, judged at infinity.

B batch, C channels, H x W pixels. An image's tries depend on the settings, the seed and its index,
never on which images share its batch or on the rank that has it.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kernels.nn import Box
from stages.certify.ball import InnerBall
from stages.certify.config import AttackSettings
from stages.data.batches import Batch
from stages.data.draws import Purpose, draw
from stages.models.margins import margin
from stages.models.networks import DistanceNetwork
from stages.models.normalisation import Normalisation
from stages.models.provers import Prover


@dataclass(frozen=True)
class Try:
    """One descent: how the gradient is made, and which of the random starts it has."""

    restart: int
    loss: str
    p: float


@dataclass(frozen=True)
class Attack:
    """Everything that breaks images.

    `network` gives gradients and `prover` judges; both are of the same weights.
    """

    network: DistanceNetwork
    prover: Prover
    normalisation: Normalisation
    ball: InnerBall
    settings: AttackSettings
    seed: int

    def worst_margins(self, batch: Batch, is_right: Tensor, is_certified: Tensor) -> Tensor:
        """Smallest margin found at any point of each image's ball.

        Args:
            batch: images on the network's device.
            is_right: bool (B,); the others are left alone.
            is_certified: bool (B,): these get the first `certified_steps` of the first try only.

        Returns:
            float64 (B,): infinity where nothing was tried; not above 0 means broken.
        """
        worst = torch.full(is_right.shape, torch.inf, dtype=torch.float64, device=is_right.device)
        attempts = tries(self.settings)
        self._try(batch, is_certified, attempts[0], self.settings.certified_steps, worst)
        for attempt in attempts:
            standing = is_right & ~is_certified & (worst > 0)
            self._try(batch, standing, attempt, self.settings.steps, worst)
        return worst

    def _try(
        self, batch: Batch, is_due: Tensor, attempt: Try, num_steps: int, worst: Tensor
    ) -> None:
        """Descend on some images of a batch and lower their `worst` in place."""
        rows = is_due.nonzero()[:, 0]
        if len(rows):
            part = Batch(batch.indices[rows], batch.images[rows], batch.labels[rows])
            worst[rows] = torch.minimum(worst[rows], self._descend(part, attempt, num_steps))

    def _descend(self, batch: Batch, attempt: Try, num_steps: int) -> Tensor:
        """One try: the smallest margin on the way, -infinity where one was not a number."""
        ball = self.ball.around(batch.images)
        x, labels = self._start(batch, ball, attempt.restart), batch.labels
        worst = torch.full(labels.shape, torch.inf, dtype=torch.float64, device=labels.device)
        rows = torch.arange(len(labels), device=labels.device)
        # Four steps lead from the image to the edge of the ball; the clamp projects exactly.
        stride = self.normalisation.eps_input(self.ball.eps) / 4
        for _ in range(num_steps):
            uphill = self._gradient(x, labels, attempt).sign().nan_to_num(nan=0.0)
            x = torch.clamp(x + stride * uphill, ball.lower, ball.upper)
            margins = margin(self.prover.logits(x), labels).nan_to_num(nan=-torch.inf)
            worst[rows] = torch.minimum(worst[rows], margins)
            standing = margins > 0
            if not standing.all():
                rows, x, labels = rows[standing], x[standing], labels[standing]
                ball = Box(ball.lower[standing], ball.upper[standing])
            if len(rows) == 0:
                break
        return worst

    def _start(self, batch: Batch, ball: Box, restart: int) -> Tensor:
        if restart == 0:
            return self.normalisation.apply(batch.images).clamp(ball.lower, ball.upper)
        size = math.prod(batch.images.shape[1:])
        counters = batch.indices[:, None] * size + torch.arange(size, device=batch.indices.device)
        top_24_bits = (draw(counters, Purpose.ATTACK, self.seed, restart) >> 40) & 0xFFFFFF
        share = (top_24_bits.float() / 2**24).view(batch.images.shape)
        start = ball.lower + share * (ball.upper - ball.lower)
        return start.clamp(ball.lower, ball.upper)

    def _gradient(self, x: Tensor, labels: Tensor, attempt: Try) -> Tensor:
        x = x.detach().requires_grad_()
        logits = self.network(x, attempt.p)
        loss = _LOSSES[attempt.loss](logits, labels)
        (gradient,) = torch.autograd.grad(loss, x)
        return gradient


def tries(settings: AttackSettings) -> list[Try]:
    """All tries in order: every loss and p from the image itself, then from random starts."""
    return [
        Try(restart, loss, p)
        for restart, loss, p in itertools.product(
            range(settings.restarts), settings.losses, settings.exponents
        )
    ]


def _negative_margin(logits: Tensor, labels: Tensor) -> Tensor:
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return (others - logits.gather(1, labels[:, None])[:, 0]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    # A sum: in a mean an image's gradient would depend on how many share its batch.
    return cross_entropy(logits, labels, reduction="sum")


_LOSSES = {"margin": _negative_margin, "ce": _cross_entropy}
