"""What the operators' tests share: every compiled variant, and data whose answers are hard."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from kernels.backend import available_cpu_kernels, cpu_kernels

EXPONENTS = (2.0, 2.5, 3.0, 4.0, 7.7, 8.0, 8.1, 13.4, 16.0, 20.0, 37.0, 61.3, 150.5, 300.0, 1000.0)
FLOOR = 4e-7
"""Error allowed besides twice the reference's own; p times that for gradients, because the power
multiplies the rounding of the distance."""


@pytest.fixture(params=available_cpu_kernels() or ("reference",))
def every_kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each set of kernels that this machine runs."""
    if request.param == "reference":
        yield request.param
        return
    with cpu_kernels(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def seeded_and_single_threaded() -> Iterator[None]:
    """One thread: on a busy machine, small operators spend their time waiting for the others."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def quiet_opcheck() -> Iterator[None]:
    """Opcheck reads .grad of tensors that are not leaves, and torch warns its own code about it."""
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="The .grad attribute of a Tensor that is not a leaf"
        )
        yield


def error_of(value: Tensor, exact: Tensor, terms: Tensor | None = None) -> float:
    """Largest error, relative to the largest exact value.

    Of a sum, give the sums of its absolute terms: where terms cancel, their rounding stays.
    """
    if exact.numel() == 0:
        return 0.0
    scale = (exact if terms is None else terms).abs().max().item() or 1.0
    return (value.double() - exact).abs().max().item() / scale


def absolute_terms(
    x: Tensor, weight: Tensor, p: float, grad: Tensor, distance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What each result adds up, in absolute value and float64: distance, grad_x, grad_weight."""
    size = (x.double()[:, None] - weight.double()).abs()
    slope = (size / distance.masked_fill(distance == 0, 1.0)[:, :, None]).pow(p - 1)
    flow = grad.double().abs()[:, :, None] * slope
    return distance, flow.sum(1), flow.sum(0)
