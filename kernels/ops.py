"""The public operators: l_p and l_inf distances between samples and weight rows.

Each is a ``torch.library`` operator in the namespace ``supnorm``, so it works under autograd,
autocast (which runs it in float32), ``torch.compile`` and ``torch.export``. The compiled kernels
serve CPU tensors where they are loaded (`kernels.backend`); `kernels.reference` serves the rest.

Legend: B batch, G groups, I inputs per group, O outputs of all groups, L positions. As in a grouped
convolution, output o belongs to group ``o // (O / G)`` and sees that group's I inputs only.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels import schema
from kernels.backend import load_cpu_kernels, load_cuda_kernels

__all__ = [
    "linf_distance",
    "linf_distance_argmax",
    "linf_distance_bounds",
    "lp_distance",
]

SMALLEST_P = 2.0
LARGEST_P = 1000.0
FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.int16, torch.int32)

schema.define_operators()
load_cpu_kernels()
load_cuda_kernels()
_ops = schema.OPERATORS


def lp_distance(x: Tensor, weight: Tensor, p: float, groups: int = 1) -> Tensor:
    """Return the l_p distance of every sample to every weight row.

    ``d_o = (sum_i |x_i - w_oi|^p)^(1/p)``, free of overflow and underflow for any finite input.
    The gradient is ``sign(x_i - w_oi) (|x_i - w_oi| / d_o)^(p-1)`` for x_i and its negative for
    w_oi; where d_o is 0 it is 0. NaN in a sample or in a weight row makes every distance to it NaN.
    The result is bit-identical from run to run and for any number of threads.

    Args:
        x: Samples, (B, G*I) or (B, G*I, L), float32 or float64.
        weight: One row an output, (O, I), of x's dtype and device.
        p: The exponent, a real number from 2 to 1000; for infinity use `linf_distance`.
        groups: Number of groups G; it divides O.

    Returns:
        Distances, (B, O) or (B, O, L).

    Raises:
        ValueError: A shape, p or groups that does not fit.
        TypeError: A dtype or device that does not fit.

    Source: arXiv:2102.05363, section 3.
    """
    _check_p(p)
    check_arguments("lp_distance", {"x": x}, weight, groups)
    return _to_layout(_ops.lp_distance(_to_rows(x), weight, float(p), groups), x)


def linf_distance(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    """Return the l_inf distance of every sample to every weight row.

    ``d_o = max_i |x_i - w_oi|``, 1-Lipschitz in x for the sup norm. The whole gradient goes to the
    lowest index i that reaches the maximum; where d_o is 0 it is 0. NaN propagates. Bit-identical
    from run to run and for any number of threads.

    Integers are exact, without gradient, as long as no ``|x_i - w_oi|`` exceeds the largest number
    of their dtype, which the caller has to prove: otherwise the result means nothing.

    Args:
        x: Samples, (B, G*I) or (B, G*I, L), float32, float64, int16 or int32.
        weight: One row an output, (O, I), of x's dtype and device.
        groups: Number of groups G; it divides O.

    Returns:
        Distances, (B, O) or (B, O, L).

    Raises:
        ValueError: A shape or groups that does not fit.
        TypeError: A dtype or device that does not fit.

    Source: arXiv:2102.05363, section 3.
    """
    check_arguments("linf_distance", {"x": x}, weight, groups, (*FLOATS, *INTEGERS))
    if _is_served_as_float32(x):
        return linf_distance(x.float(), weight.float(), groups).to(x.dtype)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        distance, _ = _ops.linf_distance_argmax(_to_rows(x), weight, groups)
    else:
        distance = _ops.linf_distance(_to_rows(x), weight, groups)
    return _to_layout(distance, x)


def linf_distance_argmax(x: Tensor, weight: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Return the l_inf distances and the index of the input that decides each. No gradient.

    The index is ``argmax_i |x_i - w_oi|``, the lowest where several inputs reach the maximum. Where
    the distance is NaN it is the index of a NaN difference.

    Args:
        x: Samples, (B, G*I) or (B, G*I, L), float32 or float64.
        weight: One row an output, (O, I), of x's dtype and device.
        groups: Number of groups G; it divides O.

    Returns:
        Distances, and int32 indices into the weight row, each (B, O) or (B, O, L).

    Raises:
        ValueError: A shape or groups that does not fit.
        TypeError: A dtype or device that does not fit.
    """
    check_arguments("linf_distance_argmax", {"x": x}, weight, groups)
    with torch.no_grad():
        distance, argmax = _ops.linf_distance_argmax(_to_rows(x), weight, groups)
    return _to_layout(distance, x), _to_layout(argmax, x)


def linf_distance_bounds(
    lower: Tensor, upper: Tensor, weight: Tensor, groups: int = 1
) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest l_inf distance over a box of inputs. No gradient.

    ``smallest_o = max_i dist(w_oi, [l_i, u_i])`` and
    ``largest_o = max_i max(|l_i - w_oi|, |u_i - w_oi|)``, both reached by some x in the box.
    Rounding to nearest is monotone, so they bound what `linf_distance` itself returns anywhere in
    the box without any slack; against real arithmetic each is off by at most half a unit in the
    last place. Integers are exact as in `linf_distance`.

    Args:
        lower: Lower ends, (B, G*I) or (B, G*I, L), float32, float64, int16 or int32; must not
            exceed ``upper``.
        upper: Upper ends, of the same shape.
        weight: One row an output, (O, I), of the same dtype and device.
        groups: Number of groups G; it divides O.

    Returns:
        The smallest and the largest distance, each (B, O) or (B, O, L).

    Raises:
        ValueError: A shape or groups that does not fit.
        TypeError: A dtype or device that does not fit.
    """
    box = {"lower": lower, "upper": upper}
    check_arguments("linf_distance_bounds", box, weight, groups, (*FLOATS, *INTEGERS))
    if _is_served_as_float32(lower):
        ends = linf_distance_bounds(lower.float(), upper.float(), weight.float(), groups)
        return ends[0].to(lower.dtype), ends[1].to(lower.dtype)
    with torch.no_grad():
        ends = _ops.linf_distance_bounds(_to_rows(lower), _to_rows(upper), weight, groups)
    smallest, largest = ends
    return _to_layout(smallest, lower), _to_layout(largest, lower)


def check_arguments(
    operator: str,
    inputs: dict[str, Tensor],
    weight: Tensor,
    groups: int,
    allowed: tuple[torch.dtype, ...] = FLOATS,
) -> None:
    """Raise a message that says what does not fit, unless everything does."""
    name, x = next(iter(inputs.items()))
    for other_name, other in inputs.items():
        if other.shape != x.shape:
            raise ValueError(
                f"{operator}: {name} is {_shape(x)} but {other_name} is {_shape(other)}; "
                "they must have one shape."
            )
    if x.dim() not in (2, 3):
        raise ValueError(
            f"{operator}: {name} has shape {_shape(x)}; expected (batch, inputs) or "
            "(batch, inputs, positions). Flatten images first."
        )
    if weight.dim() != 2 or weight.shape[1] == 0:
        raise ValueError(
            f"{operator}: weight has shape {_shape(weight)}; expected (outputs, inputs >= 1)."
        )
    if groups < 1 or weight.shape[0] % groups:
        raise ValueError(
            f"{operator}: groups is {groups}; it must divide the {weight.shape[0]} outputs."
        )
    if x.shape[1] != groups * weight.shape[1]:
        raise ValueError(
            f"{operator}: {name} has {x.shape[1]} inputs but weight {_shape(weight)} with "
            f"groups={groups} needs {groups * weight.shape[1]}."
        )
    _check_kind(operator, inputs, weight, allowed)


def _check_kind(
    operator: str, inputs: dict[str, Tensor], weight: Tensor, allowed: tuple[torch.dtype, ...]
) -> None:
    for name, x in inputs.items():
        if x.device != weight.device:
            raise TypeError(
                f"{operator}: {name} is on {x.device} but weight on {weight.device}; "
                "move one of them."
            )
    dtypes = {name: _working_dtype(x) for name, x in (*inputs.items(), ("weight", weight))}
    for name, dtype in dtypes.items():
        if dtype not in allowed:
            expected = " or ".join(map(str, allowed))
            raise TypeError(f"{operator}: {name} is {dtype}; expected {expected}.")
    if len(set(dtypes.values())) > 1:
        given = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypeError(f"{operator}: dtypes differ ({given}); convert one of them.")


def _is_served_as_float32(x: Tensor) -> bool:
    """16-bit integers on a GPU: float32 has kernels there, and holds all their differences."""
    return x.dtype == torch.int16 and x.device.type == "cuda"


def _working_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which the operator will see x: autocast makes float32 of half precision."""
    if x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type):
        return torch.float32
    return x.dtype


def _check_p(p: float) -> None:
    if p == math.inf:
        raise ValueError("lp_distance: p is infinite; use linf_distance.")
    if not SMALLEST_P <= p <= LARGEST_P:
        raise ValueError(
            f"lp_distance: p is {p}; it must be from {SMALLEST_P:g} to {LARGEST_P:g} "
            "(for infinity use linf_distance)."
        )


def _shape(x: Tensor) -> str:
    return str(tuple(x.shape))


def _to_rows(x: Tensor) -> Tensor:
    """(B, C, L) as (B*L, C): every position is a sample of its own."""
    return x if x.dim() == 2 else x.transpose(1, 2).reshape(-1, x.shape[1])


def _to_layout(rows: Tensor, x: Tensor) -> Tensor:
    """The inverse of `_to_rows` for an output that belongs to x."""
    if x.dim() == 2:
        return rows
    return rows.view(x.shape[0], x.shape[2], rows.shape[1]).transpose(1, 2).contiguous()
