"""A stack of sparse distance layers of whole numbers, evaluated in one call.

Legend: B batch, I inputs. Between the layers nothing is allocated or laid out anew: one sample
takes some microseconds, and a batch stays transposed and in cache from the first layer to the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kernels import schema
from kernels.sparse import SparseRows

SLICE_ROWS = 16
"""Outputs that lie side by side; csrc/cpu/host/sparse_kernels.h has the same figure."""


class SparseStack(NamedTuple):
    """Layers laid out for `sparse_linf_stack`, 16 outputs side by side.

    Neurons between the layers are sorted by their number of edges, so that few of the 16 wait for
    the longest of them; the outputs of the last layer keep their order.
    """

    values: Tensor
    """int16 or int32 (steps, 16): one edge of each of 16 outputs; shorter rows repeat an edge."""
    columns: Tensor
    """int16 (steps, 16): where each edge starts."""
    starts: Tensor
    """int32 (slices + 1,): the steps of each 16 outputs, through all layers."""
    floor: Tensor
    """(slices, 16)."""
    offset: Tensor
    """(slices, 16): taken off each distance."""
    widths: Tensor
    """int32 (layers + 1,): I, then the outputs of each layer."""

    @classmethod
    def of(cls, num_inputs: int, layers: Sequence[tuple[SparseRows, Tensor]]) -> SparseStack:
        """Lay out layers.

        Args:
            num_inputs: I.
            layers: rows and offset (O,) of each, int16 or int32.
        """
        parts: list[_Slice] = []
        device = layers[0][0].values.device
        widths, place = [num_inputs], torch.arange(num_inputs, device=device)
        for number, (rows, offset) in enumerate(layers):
            lengths = rows.starts.diff()
            positions = torch.arange(len(lengths), device=device)
            is_last = number == len(layers) - 1
            order = positions if is_last else lengths.argsort(descending=True, stable=True)
            parts += [
                _slice(rows, offset, outputs, place, widths[-1])
                for outputs in torch.split(order, SLICE_ROWS)
            ]
            widths.append(len(lengths))
            place = torch.empty_like(order).scatter_(0, order, positions)
        steps = torch.tensor([0, *(len(part.values) for part in parts)], device=device)
        return cls(
            torch.cat([part.values for part in parts]),
            torch.cat([part.columns for part in parts]),
            steps.cumsum(0).to(torch.int32),
            torch.stack([part.floor for part in parts]),
            torch.stack([part.offset for part in parts]),
            torch.tensor(widths, dtype=torch.int32, device=device),
        )


def sparse_linf_stack(x: Tensor, stack: SparseStack, shift: int = 0) -> Tensor:
    """Return ``max(floor_o, max_k |x_(c_k) - v_k|) - offset_o``, layer after layer.

    Exact as long as no number on the way leaves the dtype, which the caller has to prove.

    Args:
        x: (B, I) of the layers' dtype; or uint8, which enters as ``x << shift``.
        stack: The layers.
        shift: For uint8.

    Returns:
        Outputs of the last layer, (B, O), of the layers' dtype.
    """
    outputs: Tensor = schema.OPERATORS.sparse_linf_stack(x, *stack, shift)
    return outputs


class _Slice(NamedTuple):
    values: Tensor
    columns: Tensor
    floor: Tensor
    offset: Tensor


def _slice(
    rows: SparseRows, offset: Tensor, outputs: Tensor, place: Tensor, num_inputs: int
) -> _Slice:
    """Up to 16 outputs side by side.

    Args:
        rows: of the whole layer.
        offset: (O,).
        outputs: which of them.
        place: where each input of the layer lies now.
        num_inputs: also the place of the 0 that rows without edges look at.
    """
    first, lengths = rows.starts[:-1].long()[outputs], rows.starts.diff().long()[outputs]
    steps = torch.arange(int(lengths.max()), device=first.device)[:, None]
    # A row shorter than the longest repeats its last edge; a maximum does not mind.
    edges = first + steps.minimum((lengths - 1).clamp(min=0))
    has_edges = (lengths > 0).expand_as(edges)
    values = rows.values.new_zeros(len(steps), SLICE_ROWS)
    columns = torch.full_like(values, num_inputs, dtype=torch.int16)
    values[:, : len(outputs)][has_edges] = rows.values[edges[has_edges]]
    columns[:, : len(outputs)][has_edges] = place[rows.columns[edges[has_edges]].long()].to(
        torch.int16
    )
    return _Slice(values, columns, _padded(rows.floor[outputs]), _padded(offset[outputs]))


def _padded(numbers: Tensor) -> Tensor:
    return torch.nn.functional.pad(numbers, (0, SLICE_ROWS - len(numbers)))
