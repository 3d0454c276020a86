"""The rules that a row is made by."""

from fractions import Fraction

import torch

from stages.certify.batch_certifier import BatchCertifier
from stages.certify.proofs import Findings, Proofs
from stages.data.batches import Batch
from stages.models.linf.attack_space import AttackSpace


class Unbreakable(AttackSpace):
    """Nothing that is tried here changes an answer."""

    def __init__(self, network):
        self.network = network

    def ball(self, images):
        return images, images

    def centre(self, images):
        return images

    def step(self, points, uphill, ball):
        return points

    def between(self, ball, share):
        return ball[0]

    def inputs(self, points):
        return points.float()

    def margins(self, points, labels):
        return torch.ones(len(labels), dtype=torch.float64)


class Radii(Proofs):
    """Every image is right and has the radius that was given for it."""

    def __init__(self, attack_space, radius):
        self.attack_space, self.radius = attack_space, radius

    def prove(self, images, labels):
        margin = torch.ones(len(labels), dtype=torch.float64)
        return Findings(labels, margin, self.radius, ["margin"] * 3, [False] * 3)


def test_an_image_is_certified_below_its_radius_and_not_at_it(tools):
    eps = Fraction(1, 10)
    radius = [eps - Fraction(1, 10**30), eps, eps + Fraction(1, 10**30)]
    attack = {"steps": 1, "restarts": 1, "p": ["inf"], "square_queries": 0}
    proofs = Radii(Unbreakable(tools.distance_network().requires_grad_(False)), radius)
    examiner = BatchCertifier(proofs, tools.settings_for(attack=attack))
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    rows = examiner.records(Batch(torch.arange(3), images, torch.tensor([0, 1, 2])))
    assert [row.certified for row in rows] == [False, False, True]
    assert [row.exact_radius for row in rows] == radius
    assert all(Fraction(row.radius) <= row.exact_radius for row in rows)
