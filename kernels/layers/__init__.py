"""Layers made of the distance operators."""

from kernels.layers.box import Box
from kernels.layers.centering import Centering
from kernels.layers.distance_linear import DistanceLinear
from kernels.layers.sparse_distance import SparseDistance

__all__ = ["Box", "Centering", "DistanceLinear", "SparseDistance"]
