"""A kind of layer of tests: distances to the mirror images of its weights."""

from dataclasses import dataclass
from typing import ClassVar

import kernels
from kernels.layers import Box
from stages.models.linf.layers.dense import Dense, DenseWeights


class Mirrored(Dense):
    @property
    def weights(self):
        return MirroredWeights(-self.weight.detach())

    def forward(self, x, p):
        if p == float("inf"):
            return kernels.linf_distance(x, -self.weight)
        return kernels.lp_distance(x, -self.weight, p)

    def bounds(self, lower, upper):
        return Box(*kernels.linf_distance_bounds(lower, upper, -self.weight))

    def identity_entries(self):
        return None


@dataclass(frozen=True)
class MirroredWeights(DenseWeights):
    kind: ClassVar[str] = "mirrored"

    def layer(self, num_inputs):
        layer = Mirrored(num_inputs, self.num_outputs)
        layer.weight.data.copy_(-self.weight)
        return layer


LAYER, WEIGHTS = Mirrored, MirroredWeights
