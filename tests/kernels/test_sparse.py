"""Operators on compressed rows: against the formulas, against dense rows, against damage."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import SparseRows, sparse_reference

DTYPES = (torch.float32, torch.float64, torch.int16, torch.int32)
ROOM = {torch.int16: 16000, torch.int32: 2**30 - 1}
SHAPES = ((1, 3, 2), (7, 5, 4), (8, 40, 33), (130, 300, 37), (70, 9, 100))


def numbers(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if dtype in ROOM:
        return torch.randint(-ROOM[dtype], ROOM[dtype], shape, dtype=dtype)
    return torch.randn(shape, dtype=dtype)


def some_rows(outputs: int, inputs: int, dtype: torch.dtype, share: float = 0.2) -> SparseRows:
    """Rows of random length, the first one empty; some floors decide."""
    keep = torch.rand(outputs, inputs) < share
    keep[0] = False
    floor = numbers((outputs,), dtype).abs() // 2
    return SparseRows.from_dense(numbers((outputs, inputs), dtype), keep, floor)


def all_edges(weight: Tensor) -> SparseRows:
    return SparseRows.from_dense(weight, torch.ones_like(weight, dtype=torch.bool))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_distance_argmax_and_bounds_are_exactly_those_of_the_formula(
    every_kernel: str, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    batch, inputs, outputs = shape
    x, rows = numbers((batch, inputs), dtype), some_rows(outputs, inputs, dtype)
    distance, deciding = sparse_reference.sparse_linf_distance_argmax(x, *rows)
    assert torch.equal(kernels.sparse_linf_distance(x, rows), distance)
    assert torch.equal(torch.ops.supnorm.sparse_linf_distance_argmax(x, *rows)[1], deciding)
    lower = x // 2 - x.abs() // 3
    upper = lower + numbers((batch, inputs), dtype).abs() // 4
    expected = sparse_reference.sparse_linf_distance_bounds(lower, upper, *rows)
    found = kernels.sparse_linf_distance_bounds(lower, upper, rows)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


@settings(max_examples=100, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 150), st.integers(1, 90), st.integers(1, 60)),
    levels=st.sampled_from((2, 7, 1000)),
    share=st.sampled_from((0.02, 0.3, 1.0)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_drawn_shapes_and_ties_are_exact(
    sizes: tuple[int, int, int], levels: int, share: float, dtype: torch.dtype, seed: int
) -> None:
    torch.manual_seed(seed)
    batch, inputs, outputs = sizes
    x = torch.randint(levels, (batch, inputs)).to(dtype)
    weight = torch.randint(levels, (outputs, inputs)).to(dtype)
    floor = torch.randint(levels, (outputs,)).to(dtype) // 2
    rows = SparseRows.from_dense(weight, torch.rand(outputs, inputs) < share, floor)
    distance, deciding = sparse_reference.sparse_linf_distance_argmax(x, *rows)
    assert torch.equal(kernels.sparse_linf_distance(x, rows), distance)
    assert torch.equal(torch.ops.supnorm.sparse_linf_distance_argmax(x, *rows)[1], deciding)


def test_with_every_edge_kept_it_is_the_dense_operator(every_kernel: str) -> None:
    x, weight = torch.randn(70, 33), torch.randn(45, 33)
    assert torch.equal(
        kernels.sparse_linf_distance(x, all_edges(weight)), kernels.linf_distance(x, weight)
    )
    dense = kernels.linf_distance_bounds(x - 0.3, x + 0.3, weight)
    sparse = kernels.sparse_linf_distance_bounds(x - 0.3, x + 0.3, all_edges(weight))
    assert torch.equal(sparse[0], dense[0])
    assert torch.equal(sparse[1], dense[1])


@pytest.mark.parametrize("p", [2.0, 8.0, 37.5, 1000.0, math.inf])
def test_with_every_edge_kept_gradients_are_those_of_the_dense_operator(p: float) -> None:
    grad = torch.randn(20, 13)
    found = []
    for is_sparse in (False, True):
        torch.manual_seed(1)
        x, weight = torch.randn(20, 31, requires_grad=True), torch.randn(13, 31, requires_grad=True)
        if not is_sparse:
            finite = p < math.inf
            y = kernels.lp_distance(x, weight, p) if finite else kernels.linf_distance(x, weight)
        elif p < math.inf:
            y = kernels.sparse_lp_distance(x, all_edges(weight), p)
        else:
            y = kernels.sparse_linf_distance(x, all_edges(weight))
        found.append((y, *torch.autograd.grad(y, (x, weight), grad)))
    for dense, sparse in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=2e-4, atol=2e-5)


def test_a_row_decided_by_its_floor_has_no_gradient() -> None:
    x = torch.tensor([[1.0, 2.0]], requires_grad=True)
    rows = SparseRows.from_dense(torch.zeros(2, 2), torch.tensor([[True, True], [False, True]]))
    rows = rows._replace(floor=torch.tensor([2.0, 0.5]))
    distance = kernels.sparse_linf_distance(x, rows)
    assert distance.tolist() == [[2.0, 2.0]]
    (grad,) = torch.autograd.grad(distance.sum(), x)
    assert grad.tolist() == [[0.0, 1.0]]
    assert torch.ops.supnorm.sparse_linf_distance_argmax(x, *rows)[1].tolist() == [[-1, 2]]


def test_a_sample_equal_to_its_row_has_distance_0_and_gradient_0() -> None:
    x = torch.randn(1, 6, requires_grad=True)
    for p in (2.0, 8.0):
        distance = kernels.sparse_lp_distance(x, all_edges(x.detach().clone()), p)
        (grad,) = torch.autograd.grad(distance.sum(), x)
        assert distance.item() == 0
        assert torch.equal(grad, torch.zeros(1, 6))


def test_distance_is_1_lipschitz(every_kernel: str) -> None:
    x, rows = torch.randn(60, 70), some_rows(80, 70, torch.float32)
    for step in (1e-3, 0.1, 5.0):
        noise = step * (2 * torch.rand(60, 70) - 1)
        moved = kernels.sparse_linf_distance(x + noise, rows)
        change = (moved - kernels.sparse_linf_distance(x, rows)).abs()
        assert (change <= step + 1e-6 * (12 + step)).all()


@pytest.mark.parametrize("batch", [3, 40])
def test_nan_reaches_exactly_the_rows_that_see_it(every_kernel: str, batch: int) -> None:
    x, rows = torch.randn(batch, 40), some_rows(30, 40, torch.float32)
    x[1, 7] = math.nan
    sees = torch.zeros(batch, 30, dtype=torch.bool)
    sees[1, rows.output_of_edges()[rows.columns == 7]] = True
    assert sees.any()
    assert torch.equal(kernels.sparse_linf_distance(x, rows).isnan(), sees)
    for bound in kernels.sparse_linf_distance_bounds(x, x, rows):
        assert torch.equal(bound.isnan(), sees)


@pytest.mark.parametrize("batch", [0, 5])
def test_no_sample_and_no_edge_are_allowed(every_kernel: str, batch: int) -> None:
    rows = SparseRows.from_dense(torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool))
    rows = rows._replace(floor=torch.tensor([0.0, 1.0, 2.0]))
    x = torch.randn(batch, 4, requires_grad=True)
    distance = kernels.sparse_linf_distance(x, rows)
    assert torch.equal(distance, rows.floor.expand(batch, 3))
    (grad,) = torch.autograd.grad(distance.sum(), x)
    assert torch.equal(grad, torch.zeros(batch, 4))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"columns": torch.tensor([0, 1, 4], dtype=torch.int16)}, "outside the inputs"),
        ({"columns": torch.tensor([0, -1, 2], dtype=torch.int16)}, "outside the inputs"),
        ({"starts": torch.tensor([0, 4, 3], dtype=torch.int32)}, "starts"),
        ({"starts": torch.tensor([0, 2, 9], dtype=torch.int32)}, "starts"),
        ({"starts": torch.tensor([0, 2], dtype=torch.int32)}, "no compressed rows"),
        ({"values": torch.zeros(2)}, "no compressed rows"),
    ],
)
def test_damaged_rows_are_refused_before_any_memory_is_read(
    every_kernel: str, damage: dict[str, Tensor], message: str
) -> None:
    rows = SparseRows.from_dense(
        torch.zeros(2, 4), torch.tensor([[True, True, False, False], [False, False, True, False]])
    )
    with pytest.raises(RuntimeError, match=message):
        kernels.sparse_linf_distance(torch.zeros(2, 4), rows._replace(**damage))


def test_operands_that_do_not_fit_are_named() -> None:
    rows = some_rows(3, 4, torch.float32)
    with pytest.raises(TypeError, match=r"x is torch.float64 .* but the rows are torch.float32"):
        kernels.sparse_linf_distance(torch.zeros(2, 4).double(), rows)
    with pytest.raises(ValueError, match=r"expected \(B, I\)"):
        kernels.sparse_linf_distance(torch.zeros(4), rows)
    with pytest.raises(ValueError, match=r"differ in shape"):
        kernels.sparse_linf_distance_bounds(torch.zeros(2, 4), torch.zeros(3, 4), rows)
    with pytest.raises(ValueError, match=r"use sparse_linf_distance"):
        kernels.sparse_lp_distance(torch.zeros(2, 4), rows, math.inf)
    with pytest.raises(ValueError, match=r"at most 32,767"):
        SparseRows.from_dense(torch.zeros(1, 32768), torch.zeros(1, 32768, dtype=torch.bool))


@pytest.mark.usefixtures("quiet_opcheck")
@pytest.mark.parametrize("name", ["sparse_linf_distance", "sparse_linf_distance_argmax"])
def test_opcheck_passes(name: str) -> None:
    x, rows = torch.randn(5, 7, requires_grad=True), some_rows(6, 7, torch.float32, share=0.6)
    rows.values.requires_grad_()
    torch.library.opcheck(getattr(torch.ops.supnorm, name).default, (x, *rows))


@pytest.mark.usefixtures("quiet_opcheck")
def test_opcheck_of_bounds_and_gradient_passes() -> None:
    x, rows = torch.randn(5, 7), some_rows(6, 7, torch.float32, share=0.6)
    operators = torch.ops.supnorm
    torch.library.opcheck(operators.sparse_linf_distance_bounds.default, (x, x + 1, *rows))
    distance, deciding = operators.sparse_linf_distance_argmax(x, *rows)
    torch.library.opcheck(
        operators.sparse_linf_distance_backward.default,
        (distance, x, rows.values, rows.columns, deciding, [True, False]),
    )
