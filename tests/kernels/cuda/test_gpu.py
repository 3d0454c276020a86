"""The operators on a real GPU, through torch: `make test-gpu`."""

import math

import pytest
import torch
from torch import Tensor

import kernels
from kernels import reference
from kernels.cuda.adam import control_of, decayed_adam_
from kernels.cuda.driver import gpu
from tests.kernels.conftest import error_of
from tests.kernels.cuda.shim import HostShim

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]

SHAPES = ((1, 1, 1, 1), (70, 33, 45, 1), (130, 64, 24, 3), (9, 1000, 10, 1), (300, 700, 520, 1))
EXPONENTS = (2.0, 2.5, 8.0, 9.1, 14.0, 15.1, 20.3, 24.0, 30.5, 44.4, 99.0, 300.0, 1000.0)


@pytest.fixture(autouse=True)
def kernels_are_in_use() -> None:
    assert kernels.backend().cuda == "nvrtc"
    torch.cuda.set_sync_debug_mode("default")


def operands(shape: tuple[int, int, int, int], trained: bool = False) -> tuple[Tensor, Tensor]:
    batch, inputs, outputs, groups = shape
    x, weight = torch.randn(batch, inputs * groups), torch.randn(outputs, inputs)
    if trained:
        weight[torch.arange(outputs), torch.arange(outputs) % inputs] = -10.0
    return x.cuda().requires_grad_(), weight.cuda().requires_grad_()


def distance_of(x: Tensor, weight: Tensor, p: float) -> Tensor:
    return kernels.linf_distance(x, weight) if p == math.inf else kernels.lp_distance(x, weight, p)


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_linf_distance_argmax_and_bounds_are_exactly_those_of_the_formula(
    shape: tuple[int, int, int, int], trained: bool
) -> None:
    x, weight = (t.detach() for t in operands(shape, trained))
    distance, argmax = reference.linf_distance_argmax(x, weight, shape[3])
    assert torch.equal(kernels.linf_distance(x, weight, shape[3]), distance)
    assert torch.equal(kernels.linf_distance_argmax(x, weight, shape[3])[1], argmax)
    upper = x + torch.rand_like(x)
    ours = kernels.linf_distance_bounds(x, upper, weight, shape[3])
    exact = reference.linf_distance_bounds(x, upper, weight, shape[3])
    assert torch.equal(ours[0], exact[0])
    assert torch.equal(ours[1], exact[1])


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("p", EXPONENTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lp_distance_and_gradients_agree_with_float64(
    shape: tuple[int, int, int, int], p: float, trained: bool
) -> None:
    x, weight = operands(shape, trained)
    distance = kernels.lp_distance(x, weight, p, shape[3])
    wide = (x.detach().double(), weight.detach().double())
    exact = reference.lp_distance(*wide, p, shape[3])
    plain = reference.lp_distance(x.detach(), weight.detach(), p, shape[3])
    assert error_of(distance.detach(), exact) <= 2 * error_of(plain, exact) + 2.0**-21
    grad = torch.rand_like(distance)
    ours = torch.autograd.grad(distance, (x, weight), grad)
    args = (distance.detach().double(), p, shape[3])
    for value, right in zip(
        ours, reference.lp_distance_backward(grad.double(), *wide, *args), strict=True
    ):
        assert error_of(value, right) <= (p + 2) * 2.0**-20


@pytest.mark.parametrize("shape", SHAPES)
def test_linf_gradients_are_those_of_the_formula(shape: tuple[int, int, int, int]) -> None:
    x, weight = operands(shape)
    distance = kernels.linf_distance(x, weight, shape[3])
    grad = torch.randn_like(distance)
    ours = torch.autograd.grad(distance, (x, weight), grad)
    _, argmax = reference.linf_distance_argmax(x, weight, shape[3])
    for value, right in zip(
        ours, reference.linf_distance_backward(grad, x, weight, argmax, shape[3]), strict=True
    ):
        assert torch.allclose(value, right, atol=1e-4)


def test_nan_reaches_exactly_the_outputs_that_see_it() -> None:
    x, weight = (t.detach() for t in operands((20, 140, 30, 1)))
    x[3, 7], weight[5, 111] = math.nan, math.nan
    expected = torch.zeros(20, 30, dtype=torch.bool, device="cuda")
    expected[3], expected[:, 5] = True, True
    results = [kernels.linf_distance(x, weight), *kernels.linf_distance_bounds(x, x, weight)]
    for result in (*results, *(kernels.lp_distance(x, weight, p) for p in (8.0, 14.0, 9.1))):
        assert torch.equal(result.isnan(), expected)


@pytest.mark.parametrize("p", [8.0, 37.5, math.inf])
def test_nothing_waits_for_the_gpu_and_bits_repeat(p: float) -> None:
    x, weight = operands((150, 260, 140, 1))

    def step() -> list[Tensor]:
        distance = distance_of(x, weight, p)
        return [distance, *torch.autograd.grad(distance, (x, weight), torch.ones_like(distance))]

    first = step()
    torch.cuda.set_sync_debug_mode("error")
    second = step()
    torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("p", [8.0, 37.5, math.inf])
def test_a_captured_step_replays_on_new_data(p: float) -> None:
    x, weight = (t.detach() for t in operands((150, 260, 140, 1)))

    def run() -> Tensor:
        return distance_of(x, weight, p)

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()  # compiles, loads, and brings the coefficients there
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    x.normal_()
    graph.replay()
    assert torch.equal(captured, run())


def test_decayed_adam_steps_as_it_does_on_the_host_shim(compiled_shim: HostShim) -> None:
    grad, weight = torch.randn(5, 300), torch.randn(5, 300)
    control = control_of(1, 0.01, 0.1, 37.5, (0.9, 0.99), 1e-10)
    moved = []
    for device, place in ((compiled_shim, "cpu"), (gpu(0), "cuda")):
        tensors = [weight.clone(), grad, torch.zeros_like(grad), torch.zeros_like(grad)]
        tensors = [tensor.to(place) for tensor in tensors]
        decayed_adam_(device, *tensors, control.to(place))
        moved.append(tensors[0].cpu())
    assert torch.allclose(*moved, atol=2e-6)


def test_other_streams_and_devices_are_respected() -> None:
    x, weight = (t.detach() for t in operands((70, 33, 45, 1)))
    expected = reference.linf_distance(x, weight, 1)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        ours = kernels.linf_distance(x, weight)
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(ours, expected)


def test_float64_is_served_by_the_formula() -> None:
    x, weight = (t.detach().double() for t in operands((9, 20, 8, 2)))
    assert torch.equal(
        kernels.lp_distance(x, weight, 8.5, 2), reference.lp_distance(x, weight, 8.5, 2)
    )
