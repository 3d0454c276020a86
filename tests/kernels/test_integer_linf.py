"""The l_inf operators on integers: exact on every instruction set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import kernels
from kernels import reference

DTYPES = [torch.int16, torch.int32]
HALF = {torch.int16: 2**14 - 1, torch.int32: 2**30 - 1}
"""Numbers up to this differ by no more than the dtype holds."""
SHAPES = [(1, 1, 1), (3, 5, 2), (9, 1000, 10), (49, 33, 70), (50, 64, 300)]


def integers(dtype: torch.dtype, *shape: int, seed: int = 0, most: int | None = None) -> Tensor:
    most = HALF[dtype] if most is None else most
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, shape, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_distances_and_bounds_are_those_of_int64(
    every_kernel: str, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    batch, inputs, outputs = shape
    ends = torch.stack([integers(dtype, batch, inputs, seed=seed) for seed in (1, 2)])
    lower, upper = ends.amin(0), ends.amax(0)
    weight = integers(dtype, outputs, inputs)
    wide = [tensor.long() for tensor in (lower, upper, weight)]
    found = kernels.linf_distance(lower, weight)
    assert found.dtype == dtype
    assert torch.equal(found.long(), reference.linf_distance(wide[0], wide[2], 1))
    for end, exact in zip(
        kernels.linf_distance_bounds(lower, upper, weight),
        reference.linf_distance_bounds(*wide, 1),
        strict=True,
    ):
        assert torch.equal(end.long(), exact)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_largest_difference_that_fits_is_exact(every_kernel: str, dtype: torch.dtype) -> None:
    most = torch.iinfo(dtype).max
    x = torch.tensor([[most, 0, 5]], dtype=dtype)
    weight = torch.tensor([[0, -most, 5], [most, 0, 5]], dtype=dtype)
    assert kernels.linf_distance(x, weight).tolist() == [[most, 0]]
    smallest, largest = kernels.linf_distance_bounds(x - 5, x, weight)
    assert smallest.tolist() == [[most - 5, 0]]
    assert largest.tolist() == [[most, 5]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_positions_and_layout_are_those_of_floats(dtype: torch.dtype) -> None:
    x, weight = integers(dtype, 4, 2 * 6, 7, most=999), integers(dtype, 8, 6, most=999)
    exact = kernels.linf_distance(x.float(), weight.float(), 2)
    assert torch.equal(kernels.linf_distance(x, weight, 2).float(), exact)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(kernels.linf_distance(turned, weight, 2).float(), exact)
    box = kernels.linf_distance_bounds(x, x + 3, weight, 2)
    for found, wanted in zip(
        box, kernels.linf_distance_bounds(x.float(), x.float() + 3, weight.float(), 2), strict=True
    ):
        assert torch.equal(found.float(), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_does_not_matter(every_kernel: str, dtype: torch.dtype) -> None:
    x, weight = integers(dtype, 150, 260), integers(dtype, 140, 260, seed=1)
    results = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        results.append(kernels.linf_distance(x, weight))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("dtype", DTYPES)
def test_empty_batches_and_no_outputs_give_empty_results(dtype: torch.dtype) -> None:
    weight = integers(dtype, 3, 4)
    assert kernels.linf_distance(integers(dtype, 0, 4), weight).shape == (0, 3)
    assert kernels.linf_distance(integers(dtype, 2, 4), weight[:0]).shape == (2, 0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
def test_every_point_of_a_box_is_within_its_bounds(
    sizes: tuple[int, int, int], dtype: torch.dtype, seed: int
) -> None:
    batch, inputs, outputs = sizes
    ends = torch.stack([integers(dtype, batch, inputs, seed=seed + side) for side in (0, 1)])
    lower, upper = ends.amin(0), ends.amax(0)
    weight = integers(dtype, outputs, inputs, seed=seed + 2)
    smallest, largest = kernels.linf_distance_bounds(lower, upper, weight)
    for x in (*ends, integers(dtype, batch, inputs, seed=seed + 3).clamp(lower, upper)):
        distance = kernels.linf_distance(x, weight)
        assert (smallest <= distance).all() and (distance <= largest).all()


def test_float32_gives_the_distances_of_16_bit_integers_exactly(every_kernel: str) -> None:
    """What GPUs rely on: no difference of two such numbers is beyond 2^24."""
    weight, lower = integers(torch.int16, 70, 300), integers(torch.int16, 40, 300, seed=1)
    upper = torch.maximum(lower, integers(torch.int16, 40, 300, seed=2))
    as_floats = kernels.linf_distance_bounds(lower.float(), upper.float(), weight.float())
    for found, exact in zip(
        (kernels.linf_distance(lower.float(), weight.float()), *as_floats),
        (
            kernels.linf_distance(lower, weight),
            *kernels.linf_distance_bounds(lower, upper, weight),
        ),
        strict=True,
    ):
        assert torch.equal(found.to(torch.int16), exact)


def test_operators_without_integers_refuse_them() -> None:
    x, weight = torch.zeros(2, 4, dtype=torch.int16), torch.zeros(3, 4, dtype=torch.int16)
    with pytest.raises(TypeError, match=r"int16; expected torch.float32 or torch.float64\."):
        kernels.lp_distance(x, weight, 8.0)
    with pytest.raises(TypeError, match=r"int8; expected .* or torch.int32"):
        kernels.linf_distance(x.to(torch.int8), weight.to(torch.int8))


def test_opcheck_accepts_integers() -> None:
    x, weight = integers(torch.int16, 3, 4), integers(torch.int16, 5, 4)
    torch.library.opcheck(torch.ops.supnorm.linf_distance.default, (x, weight, 1))
    torch.library.opcheck(torch.ops.supnorm.linf_distance_bounds.default, (x, x, weight, 1))
