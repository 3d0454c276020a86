"""A stack of sparse layers in one call: the same integers as layer by layer."""

import itertools

import pytest
import torch
from torch import Tensor

import kernels
from kernels import SparseRows, SparseStack, sparse_reference

MOST = {torch.int16: 2000, torch.int32: 2**24}


def layers_of(
    dtype: torch.dtype, widths: tuple[int, ...], share: float
) -> list[tuple[SparseRows, Tensor]]:
    """Random layers; the first row of each has no edge."""
    most, layers = MOST[dtype], []
    for inputs, outputs in itertools.pairwise(widths):
        keep = torch.rand(outputs, inputs) < share
        keep[0] = False
        weight = torch.randint(-most, most, (outputs, inputs), dtype=dtype)
        floor = torch.randint(0, most, (outputs,), dtype=dtype)
        offset = torch.randint(-most, most, (outputs,), dtype=dtype)
        layers.append((SparseRows.from_dense(weight, keep, floor), offset))
    return layers


def layer_by_layer(x: Tensor, layers: list[tuple[SparseRows, Tensor]]) -> Tensor:
    for rows, offset in layers:
        x = kernels.sparse_linf_distance(x, rows) - offset
    return x


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
@pytest.mark.parametrize("widths", [(5, 3), (40, 33, 16, 7), (9, 100, 1, 50, 4)])
@pytest.mark.parametrize("batch", [0, 1, 3, 15, 16, 200])
def test_outputs_are_those_of_layer_by_layer(
    every_kernel: str, dtype: torch.dtype, widths: tuple[int, ...], batch: int
) -> None:
    layers = layers_of(dtype, widths, share=0.3)
    stack = SparseStack.of(widths[0], layers)
    x = torch.randint(-MOST[dtype], MOST[dtype], (batch, widths[0]), dtype=dtype)
    outputs = kernels.sparse_linf_stack(x, stack)
    assert outputs.dtype == dtype
    assert torch.equal(outputs, layer_by_layer(x, layers))
    assert torch.equal(outputs, sparse_reference.sparse_linf_stack(x, *stack, 0))


@pytest.mark.parametrize("batch", [2, 150])
def test_pixels_enter_shifted(every_kernel: str, batch: int) -> None:
    layers = layers_of(torch.int16, (30, 20, 6), share=0.4)
    stack = SparseStack.of(30, layers)
    pixels = torch.randint(0, 256, (batch, 30), dtype=torch.uint8)
    shifted = pixels.to(torch.int16) << 5
    expected = layer_by_layer(shifted, layers)
    assert torch.equal(kernels.sparse_linf_stack(pixels, stack, 5), expected)
    assert torch.equal(sparse_reference.sparse_linf_stack(pixels, *stack, 5), expected)


def test_with_every_edge_kept_it_is_the_dense_network(every_kernel: str) -> None:
    x = torch.randint(-2000, 2000, (70, 25), dtype=torch.int16)
    weights = [
        torch.randint(-2000, 2000, shape, dtype=torch.int16) for shape in ((31, 25), (4, 31))
    ]
    dense = kernels.linf_distance(kernels.linf_distance(x, weights[0]) - 7, weights[1]) - 7
    layers = [
        (
            SparseRows.from_dense(weight, torch.ones_like(weight, dtype=torch.bool)),
            torch.full((len(weight),), 7, dtype=torch.int16),
        )
        for weight in weights
    ]
    assert torch.equal(kernels.sparse_linf_stack(x, SparseStack.of(25, layers)), dense)


def test_the_number_of_threads_does_not_matter(every_kernel: str) -> None:
    layers = layers_of(torch.int16, (50, 60, 10), share=0.5)
    stack = SparseStack.of(50, layers)
    x = torch.randint(-2000, 2000, (700, 50), dtype=torch.int16)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(kernels.sparse_linf_stack(x, stack))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("name", ["columns", "starts", "widths", "floor", "values"])
def test_damaged_layers_are_refused_before_any_memory_is_read(name: str) -> None:
    stack = SparseStack.of(8, layers_of(torch.int16, (8, 20, 3), share=0.5))
    damaged = getattr(stack, name).clone()
    damaged = damaged[:-1] if name in ("floor", "values") else damaged
    if name not in ("floor", "values"):
        damaged.view(-1)[-1] += 1000
    with pytest.raises(RuntimeError, match=r"no layers|does not fit"):
        kernels.sparse_linf_stack(
            torch.zeros(2, 8, dtype=torch.int16), stack._replace(**{name: damaged})
        )


def test_an_input_that_does_not_fit_is_refused() -> None:
    stack = SparseStack.of(8, layers_of(torch.int16, (8, 20, 3), share=0.5))
    for x in (torch.zeros(2, 9, dtype=torch.int16), torch.zeros(2, 8, dtype=torch.int32)):
        with pytest.raises(RuntimeError, match=r"does not fit the layers"):
            kernels.sparse_linf_stack(x, stack)


def test_opcheck_passes() -> None:
    stack = SparseStack.of(8, layers_of(torch.int16, (8, 20, 3), share=0.5))
    x = torch.randint(-9, 9, (5, 8), dtype=torch.int16)
    torch.library.opcheck(torch.ops.supnorm.sparse_linf_stack.default, (x, *stack, 0))
