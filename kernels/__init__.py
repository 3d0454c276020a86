"""Operators and layers of l_p / l_inf distance networks. Needs torch only.

    import kernels
    distance = kernels.linf_distance(x, weight)

`kernels.ops` has the operators, `kernels.sparse` those on compressed rows, `kernels.layers` the
layers, `kernels.backend` says what computes them.
"""

from kernels.backend import backend
from kernels.ops import (
    linf_distance,
    linf_distance_argmax,
    linf_distance_bounds,
    lp_distance,
)
from kernels.sparse import (
    SparseRows,
    sparse_linf_distance,
    sparse_linf_distance_bounds,
    sparse_lp_distance,
)
from kernels.sparse_stack import SparseStack, sparse_linf_stack

__all__ = [
    "SparseRows",
    "SparseStack",
    "backend",
    "linf_distance",
    "linf_distance_argmax",
    "linf_distance_bounds",
    "lp_distance",
    "sparse_linf_distance",
    "sparse_linf_distance_bounds",
    "sparse_linf_stack",
    "sparse_lp_distance",
]
