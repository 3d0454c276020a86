"""The attack: gradient descent through the network and its surrogates, then random squares.

B batch, C channels, H x W pixels. Every point is judged on the network that is certified.
An image's tries depend on the settings, the seed and its index, never on the rank that has it.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kernels.layers import Box
from pipeline.errors import UserError
from stages.certify.config import AttackSettings
from stages.certify.square_attack import search_squares
from stages.data.batches import Batch
from stages.data.counter_rng import Stream, draw
from stages.models.certifier import AttackSpace


@dataclass(frozen=True)
class Try:
    """One descent: how the gradient is made, and which of the random starts it has."""

    restart: int
    loss: str
    surrogate: float


@dataclass(frozen=True)
class AttackVerdict:
    """What became of each image of a batch."""

    after_baseline: Tensor
    """float64 (B,): smallest margin that the baseline found; infinity where it was not tried."""
    worst: Tensor
    """float64 (B,): smallest margin found by all tries; not above 0 means broken."""


class Attack:
    """Everything that breaks images.

    Args:
        attack_space: of the network.
        settings: which tries.
        seed: with an image's index decides where later restarts begin.

    Raises:
        UserError: the network has no such surrogate.
    """

    def __init__(self, attack_space: AttackSpace, settings: AttackSettings, seed: int) -> None:
        self.attack_space, self.settings, self.seed = attack_space, settings, seed
        self._tries = tries(attack_space, settings)
        # Plain projected gradient descent: one start at the image, cross-entropy, the network's own
        # gradient. It comes first, and its verdict is kept beside the whole attack's.
        self._baseline = Try(0, "ce", attack_space.itself)

    def attack(self, batch: Batch, is_right: Tensor, is_certified: Tensor) -> AttackVerdict:
        """Look for a point of each image's ball that is not the label's.

        Args:
            batch: images on the network's device.
            is_right: bool (B,); the others are left alone.
            is_certified: bool (B,): these get the first `certified_steps` of the first try only.
        """
        worst = torch.full(is_right.shape, torch.inf, dtype=torch.float64, device=is_right.device)
        self._try(batch, is_certified, self._tries[0], self.settings.certified_steps, worst)
        is_open = is_right & ~is_certified
        self._try(batch, is_open, self._baseline, self.settings.steps, worst)
        after_baseline = worst.clone()
        for attempt in self._tries:
            if attempt != self._baseline:
                self._try(batch, is_open & (worst > 0), attempt, self.settings.steps, worst)
        self._search(batch, is_open & (worst > 0), worst)
        return AttackVerdict(after_baseline, worst)

    def _try(
        self, batch: Batch, is_due: Tensor, attempt: Try, num_steps: int, worst: Tensor
    ) -> None:
        """Descend on some images of a batch and lower their `worst` in place."""
        rows = is_due.nonzero()[:, 0]
        if len(rows):
            found = self._descend(_some(batch, rows), attempt, num_steps)
            worst[rows] = torch.minimum(worst[rows], found)

    def _search(self, batch: Batch, is_due: Tensor, worst: Tensor) -> None:
        rows = is_due.nonzero()[:, 0]
        if len(rows) and self.attack_space.is_box:
            queries = self.settings.square_queries
            found = search_squares(self.attack_space, _some(batch, rows), queries, self.seed)
            worst[rows] = torch.minimum(worst[rows], found)

    def _descend(self, batch: Batch, attempt: Try, num_steps: int) -> Tensor:
        """One try: the smallest margin on the way."""
        ball = self.attack_space.ball(batch.images)
        x, labels = self._start(batch, ball, attempt.restart), batch.labels
        worst = torch.full(labels.shape, torch.inf, dtype=torch.float64, device=labels.device)
        rows = torch.arange(len(labels), device=labels.device)
        for _ in range(num_steps):
            x = self.attack_space.step(x, self._gradient(x, labels, attempt), ball)
            margins = self.attack_space.margins(x, labels)
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
            return self.attack_space.centre(batch.images)
        size = math.prod(batch.images.shape[1:])
        counters = batch.indices[:, None] * size + torch.arange(size, device=batch.indices.device)
        top_24_bits = (draw(counters, Stream.ATTACK, self.seed, restart) >> 40) & 0xFFFFFF
        return self.attack_space.between(
            ball, (top_24_bits.float() / 2**24).view(batch.images.shape)
        )

    def _gradient(self, points: Tensor, labels: Tensor, attempt: Try) -> Tensor:
        x = self.attack_space.inputs(points).detach().requires_grad_()
        logits = self.attack_space.logits(x, attempt.surrogate)
        loss = _LOSSES[attempt.loss](logits, labels)
        (gradient,) = torch.autograd.grad(loss, x)
        return gradient


def tries(attack_space: AttackSpace, settings: AttackSettings) -> list[Try]:
    """All tries in order: every loss and surrogate from the image, then from random starts.

    Raises:
        UserError: the network has no such surrogate.
    """
    surrogates = attack_space.surrogates
    if settings.surrogates is not None:
        surrogates = tuple(map(float, settings.surrogates))
    unknown = [one for one in surrogates if not attack_space.has_surrogate(one)]
    if unknown:
        usual = ", ".join(f"{one:g}" for one in attack_space.surrogates)
        raise UserError(
            f"attack.surrogates: this network has none called {unknown[0]:g}; usual are {usual}"
        )
    return [
        Try(restart, loss, surrogate)
        for restart, loss, surrogate in itertools.product(
            range(settings.restarts), settings.losses, surrogates
        )
    ]


def _some(batch: Batch, rows: Tensor) -> Batch:
    return Batch(batch.indices[rows], batch.images[rows], batch.labels[rows])


def _negative_margin(logits: Tensor, labels: Tensor) -> Tensor:
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return (others - logits.gather(1, labels[:, None])[:, 0]).sum()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    # A sum: in a mean an image's gradient would depend on how many share its batch.
    return cross_entropy(logits, labels, reduction="sum")


_LOSSES = {"margin": _negative_margin, "ce": _cross_entropy}
