"""Distances to weights of which few entries are kept, in compressed rows.

Legend: B batch, I inputs, O outputs, E edges, the (output, input) pairs that are kept. A row is the
maximum over its own edges and a floor, so it is 1-Lipschitz for the sup norm as a full row is; a
row without edges is the constant `floor`. float32, float64 and, free of any rounding, int16 and
int32, where the caller sees to it that no difference overflows. Compiled kernels serve CPU tensors
where they are loaded, `kernels.sparse_reference` the rest, GPUs included.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import ops, schema, sparse_reference

_ops = schema.OPERATORS

LARGEST_FAN_IN = 32767
"""Columns are int16: half the memory of int32, and no distance layer has as many inputs."""


class SparseRows(NamedTuple):
    """Weight rows with the edges that are kept."""

    values: Tensor
    """(E,), row after row."""
    columns: Tensor
    """int16 (E,): the input of each edge, ascending within a row."""
    starts: Tensor
    """int32 (O + 1,): row o has the edges starts[o] to starts[o + 1] - 1."""
    floor: Tensor
    """(O,) of the values' dtype, none below 0: what each distance is at least."""

    @classmethod
    def from_dense(cls, weight: Tensor, keep: Tensor, floor: Tensor | None = None) -> SparseRows:
        """Keep some entries of a dense weight.

        Args:
            weight: (O, I).
            keep: bool (O, I).
            floor: (O,); left out, it is 0, which changes no distance of a row that keeps an edge.

        Raises:
            ValueError: there are more inputs than an int16 column can name.
        """
        if weight.shape[1] > LARGEST_FAN_IN:
            raise ValueError(
                f"SparseRows: {weight.shape[1]:,} inputs; compressed rows name at most "
                f"{LARGEST_FAN_IN:,}."
            )
        starts = torch.zeros(len(weight) + 1, dtype=torch.int32, device=weight.device)
        starts[1:] = keep.sum(1).cumsum(0)
        columns = keep.nonzero()[:, 1].to(torch.int16)
        return cls(
            weight[keep], columns, starts, weight.new_zeros(len(weight)) if floor is None else floor
        )

    def output_of_edges(self) -> Tensor:
        """int64 (E,): the output that each edge belongs to."""
        return sparse_reference.output_of_edges(self.starts)


def sparse_linf_distance(x: Tensor, rows: SparseRows) -> Tensor:
    """Return the l_inf distance of every sample to every row, over the edges of the row.

    ``d_o = max(floor_o, max_k |x_(c_k) - v_k|)``. The whole gradient goes to the lowest edge that
    reaches the maximum, to none where the floor does. NaN in an input that a row has an edge to
    makes its distance NaN. Bit-identical for any number of threads.

    Args:
        x: Samples, (B, I).
        rows: O rows over I inputs, of x's dtype and device.

    Returns:
        Distances, (B, O).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype or device that does not fit.
    """
    _check("sparse_linf_distance", rows, x=x)
    distance: Tensor
    if torch.is_grad_enabled() and (x.requires_grad or rows.values.requires_grad):
        distance, _ = _ops.sparse_linf_distance_argmax(x, *rows)
    else:
        distance = _ops.sparse_linf_distance(x, *rows)
    return distance


def sparse_linf_distance_bounds(
    lower: Tensor, upper: Tensor, rows: SparseRows
) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest l_inf distance over a box of inputs. No gradient.

    Exact as `kernels.linf_distance_bounds` is: they bound what `sparse_linf_distance` itself
    returns anywhere in the box, without slack.

    Args:
        lower: Lower ends, (B, I); must not exceed ``upper``.
        upper: Upper ends, (B, I).
        rows: O rows over I inputs, of the same dtype and device.

    Returns:
        The smallest and the largest distance, each (B, O).

    Raises:
        ValueError: A shape that does not fit.
        TypeError: A dtype or device that does not fit.
    """
    _check("sparse_linf_distance_bounds", rows, lower=lower, upper=upper)
    with torch.no_grad():
        smallest, largest = _ops.sparse_linf_distance_bounds(lower, upper, *rows)
    return smallest, largest


def sparse_lp_distance(x: Tensor, rows: SparseRows, p: float) -> Tensor:
    """Return the l_p distance of every sample to every row, over the edges of the row.

    ``d_o = (floor_o^p + sum_k |x_(c_k) - v_k|^p)^(1/p)``, free of overflow; plain PyTorch on every
    device, differentiable in x and the values.

    Args:
        x: Samples, (B, I), float32 or float64.
        rows: O rows over I inputs, of x's dtype and device.
        p: The exponent, from 2 to 1000; for infinity use `sparse_linf_distance`.

    Returns:
        Distances, (B, O).

    Raises:
        ValueError: A shape or p that does not fit.
        TypeError: A dtype or device that does not fit.
    """
    if not ops.SMALLEST_P <= p <= ops.LARGEST_P:
        advice = "; use sparse_linf_distance" if p == math.inf else ""
        raise ValueError(f"sparse_lp_distance: p is {p}; it must be from 2 to 1000{advice}.")
    _check("sparse_lp_distance", rows, x=x)
    with torch.no_grad():
        largest = _ops.sparse_linf_distance(x, *rows)
    return sparse_reference.sparse_lp_distance(x, *rows, largest, p)


def _check(operator: str, rows: SparseRows, **inputs: Tensor) -> None:
    """Raise a message that says what does not fit; the kernels check the entries themselves."""
    for name, x in inputs.items():
        if x.dim() != 2:
            raise ValueError(f"{operator}: {name} has shape {tuple(x.shape)}; expected (B, I).")
        if (x.dtype, x.device) != (rows.values.dtype, rows.values.device):
            raise TypeError(
                f"{operator}: {name} is {x.dtype} on {x.device} but the rows are "
                f"{rows.values.dtype} on {rows.values.device}; convert one of them."
            )
    shapes = {tuple(x.shape) for x in inputs.values()}
    if len(shapes) > 1:
        raise ValueError(f"{operator}: {' and '.join(inputs)} differ in shape: {shapes}.")
