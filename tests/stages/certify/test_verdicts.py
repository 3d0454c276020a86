"""The rules that a row is made by."""

import math
from fractions import Fraction

import torch

from stages.certify.batch_certifier import BatchCertifier
from stages.data.batches import Batch
from stages.models.certifier import Certificates


class Unbreakable:
    """Nothing that is tried here changes an answer."""

    surrogates, itself, is_box = (math.inf,), math.inf, True

    def has_surrogate(self, surrogate):
        return surrogate == math.inf

    def logits(self, inputs, surrogate):
        return inputs.flatten(1)[:, :3]

    def ball(self, images):
        return images, images

    def centre(self, images):
        return images

    def step(self, points, gradient, ball):
        return points

    def between(self, ball, share):
        return ball[0]

    def inputs(self, points):
        return points.float()

    def margins(self, points, labels):
        return torch.ones(len(labels), dtype=torch.float64)


class Radii:
    """Every image is right and has the radius that was given for it."""

    def __init__(self, radius):
        self.attack_space, self.radius = Unbreakable(), radius

    def certify(self, images, labels):
        margin = torch.ones(len(labels), dtype=torch.float64)
        return Certificates(labels, margin, self.radius, ["margin"] * 3, [False] * 3)


def test_an_image_is_certified_below_its_radius_and_not_at_it(tools):
    eps = Fraction(1, 10)
    radius = [eps - Fraction(1, 10**30), eps, eps + Fraction(1, 10**30)]
    attack = {"steps": 1, "restarts": 1, "square_queries": 0}
    certifier = BatchCertifier(Radii(radius), tools.settings_for(attack=attack))
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    rows = certifier.records(Batch(torch.arange(3), images, torch.tensor([0, 1, 2])))
    assert [row.certified for row in rows] == [False, False, True]
    assert [row.exact_radius for row in rows] == radius
    assert all(Fraction(row.radius) <= row.exact_radius for row in rows)
