"""Logits are minus the Euclidean distances to one point a class: each is 1-Lipschitz for l_2."""

import math
from fractions import Fraction

import torch
from torch import nn

from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.certifier import Certificates
from stages.models.family import Surrogate, WorstCase
from stages.models.margin import margin, predicted_classes

SLACK = 1e-3
"""Of a margin: far more than float32 rounds."""


class NearestMean(nn.Module):
    def __init__(self, num_inputs, num_classes):
        super().__init__()
        self.means = nn.Parameter(torch.randn(num_classes, num_inputs))

    def forward(self, images):
        return -(images.flatten(1)[:, None] - self.means).square().sum(2).add(1e-12).sqrt()


class PlainRule:
    def __init__(self, network, settings):
        self._network, self._settings = network, settings

    def surrogate_at(self, epoch):
        rise = min(1.0, epoch / self._settings.epochs)
        return Surrogate(rise, {"heat": 1 - rise})

    def worst_case(self, images, labels, surrogate, eps_input):
        logits = self._network(images)
        worst = logits - logits.gather(1, labels[:, None]) + 2 * eps_input
        return WorstCase(logits, worst.scatter(1, labels[:, None], 0.0))

    def watch(self):
        pass

    def decay_norms(self, surrogate):
        return (((self._network.means,), 2.0),)


class EuclideanSpace:
    """Points are normalised images."""

    surrogates, itself, is_box = (math.inf,), math.inf, False

    def __init__(self, network, normalisation, eps):
        self._network, self._normalisation = network, normalisation
        self._radius = normalisation.eps_input(eps) * (1 - 1e-6)

    def has_surrogate(self, surrogate):
        return surrogate == math.inf

    def logits(self, inputs, surrogate):
        return self._network(inputs)

    def ball(self, images):
        centre = self.centre(images)
        return Box(centre - self._radius, centre + self._radius)

    def centre(self, images):
        return self._normalisation.apply(images)

    def step(self, points, gradient, ball):
        return self._inside(points + self._radius / 4 * _unit(gradient), ball)

    def between(self, ball, share):
        return self._inside(ball.lower + share * (ball.upper - ball.lower), ball)

    def inputs(self, points):
        return points

    def margins(self, points, labels):
        with torch.no_grad():
            return margin(self._network(points), labels)

    def _inside(self, points, ball):
        centre = (ball.lower + ball.upper) / 2
        away = points - centre
        length = away.flatten(1).norm(dim=1).clamp(min=self._radius).view(-1, 1, 1, 1)
        return centre + away * (self._radius / length)


class EuclideanCertifier:
    description, note = "distance_to_means", "the float32 network"

    def __init__(self, network, normalisation, eps):
        self._network, self._normalisation = network, normalisation
        self.attack_space = EuclideanSpace(network, normalisation, eps)

    @torch.no_grad()
    def certify(self, images, labels):
        logits = self._network(self._normalisation.apply(images))
        margins = margin(logits, labels)
        radius = ((margins - SLACK) * self._normalisation.std / 2).clamp(min=0)
        return Certificates(
            predicted=predicted_classes(logits, labels),
            margin=margins,
            radius=[Fraction(value) for value in radius.tolist()],
            method=["margin" if value > 0 else "none" for value in radius.tolist()],
            within_slack=[False] * len(labels),
        )

    def ship(self, folder):
        return self


class NearestMeanFamily:
    def build(self, settings, image_shape, num_classes):
        return NearestMean(math.prod(image_shape), num_classes)

    def training(self, network, settings):
        return PlainRule(network, settings)

    def finalise(self, network, images):
        network.eval()

    def quick_certifier(self, network, normalisation):
        return EuclideanCertifier(network, normalisation, Fraction(1))

    def certifier(self, task):
        network = task.loaded.network.requires_grad_(False)
        return EuclideanCertifier(network, task.loaded.normalisation, task.eps)

    def pruner(self, network, settings, history):
        raise UserError("a nearest_mean has no edges to prune")

    def shipped(self, folder, settings, eps, grid):
        raise UserError("a nearest_mean ships nothing")


def _unit(gradient):
    return gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-30).view(-1, 1, 1, 1)


FAMILY = NearestMeanFamily()
