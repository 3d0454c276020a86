"""Layers made of the distance operators."""

from kernels.nn.box import Box
from kernels.nn.centering import Centering
from kernels.nn.distance_linear import DistanceLinear
from kernels.nn.sparse_distance import SparseDistance

__all__ = ["Box", "Centering", "DistanceLinear", "SparseDistance"]
