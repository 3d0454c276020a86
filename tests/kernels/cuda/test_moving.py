import itertools
import math

import pytest
import torch

from kernels import reference
from kernels.cuda import gradients, operators
from kernels.cuda.kernel import Arguments, Kernel, Launch
from kernels.cuda.moving import MovingExponent, kernels_of
from kernels.cuda.shim import HostShim

CPU = torch.device("cpu")


class Recorder:
    """Runs launches and can run them again, as a captured graph does."""

    def __init__(self, shim: HostShim) -> None:
        self.num_processors = 1
        self._shim = shim
        self._launches: list[tuple[Kernel, Launch, Arguments]] = []

    def launch(self, kernel: Kernel, launch: Launch, arguments: Arguments) -> None:
        self._launches.append((kernel, launch, arguments))
        self._shim.launch(kernel, launch, arguments)

    def replay(self) -> None:
        for launch in self._launches:
            self._shim.launch(*launch)


def test_recorded_launches_compute_with_the_p_that_was_set_last(compiled_shim: HostShim) -> None:
    recorder = Recorder(compiled_shim)
    x, weight, grad = torch.randn(20, 40), torch.randn(10, 40), torch.rand(20, 10)
    exponent = MovingExponent(70.5, CPU)
    with exponent:
        distance = operators.lp_distance(recorder, x, weight, exponent.p, 1)
        flows = gradients.lp_distance_backward(
            recorder, grad, x, weight, distance, exponent.p, 1, [True, True]
        )
    for p in (70.5, 72.0, 74.5):
        assert exponent.move(p)
        recorder.replay()
        exact = reference.lp_distance(x, weight, p, 1)
        assert torch.allclose(distance, exact, rtol=1e-6)
        right = reference.lp_distance_backward(grad, x, weight, exact, p, 1)
        for value, other in zip(flows, right, strict=True):
            assert torch.allclose(value, other, atol=1e-3)


def test_where_other_kernels_are_needed_the_graph_has_to_be_captured_again() -> None:
    exponent = MovingExponent(9.5, CPU)
    assert exponent.move(9.6)
    assert not exponent.move(10.0)
    assert not exponent.move(50.0)
    assert not exponent.move(500.0)
    assert exponent.move(501.0)


def test_two_exponents_in_one_graph_and_even_ones_are_refused(compiled_shim: HostShim) -> None:
    x = torch.randn(2, 4)
    with MovingExponent(9.5, CPU), pytest.raises(ValueError, match=r"p is not 9\.5"):
        operators.lp_distance(compiled_shim, x, x, 9.7, 1)
    for p in (8.0, math.inf):
        with pytest.raises(ValueError, match=f"p is {p:g}, whose kernels"):
            MovingExponent(p, CPU)


def test_training_from_p_8_to_infinity_needs_16_graphs() -> None:
    course = [8.0, *(8 * 125 ** (k / 300) for k in range(1, 301)), math.inf]
    kernels = [kernels_of(p) for p in course]
    assert sum(a != b for a, b in itertools.pairwise(kernels)) == 15
