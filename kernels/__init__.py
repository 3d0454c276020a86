"""Operators and layers of l_p / l_inf distance networks. Needs torch only.

    import kernels
    distance = kernels.linf_distance(x, weight)

`kernels.ops` has the operators, `kernels.nn` the layers, `kernels.backend` says what computes them.
"""

from kernels.backend import backend
from kernels.ops import linf_argmax, linf_distance, linf_distance_bounds, lp_distance

__all__ = ["backend", "linf_argmax", "linf_distance", "linf_distance_bounds", "lp_distance"]
