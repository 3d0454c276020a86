import math

import pytest
import torch

import kernels
from kernels.layers import DistanceLinear
from kernels.layers.distance_linear import IDENTITY_WEIGHT


@pytest.mark.parametrize(("num_inputs", "num_outputs"), [(4, 4), (3, 8)])
def test_wide_layers_start_as_projections(num_inputs: int, num_outputs: int) -> None:
    layer = DistanceLinear(num_inputs, num_outputs)
    for output in range(num_outputs):
        assert layer.weight[output, output % num_inputs] == IDENTITY_WEIGHT
    x = torch.rand(5, num_inputs)
    passed = x[:, torch.arange(num_outputs) % num_inputs]
    assert torch.allclose(layer(x, math.inf), passed - IDENTITY_WEIGHT)


def test_narrow_layers_start_normal() -> None:
    weight = DistanceLinear(200, 100).weight
    assert abs(weight.mean().item()) < 0.05 and abs(weight.std().item() - 1) < 0.05
    assert weight.min() > IDENTITY_WEIGHT + 3


def test_p_chooses_the_operator() -> None:
    layer, x = DistanceLinear(6, 4), torch.randn(5, 6)
    assert torch.equal(layer(x, math.inf), kernels.linf_distance(x, layer.weight))
    assert torch.equal(layer(x, 9.5), kernels.lp_distance(x, layer.weight, 9.5))


def test_outputs_of_a_box_are_within_its_bounds() -> None:
    layer, x = DistanceLinear(6, 4), torch.randn(5, 6)
    lower, upper = layer.bounds(x - 0.1, x + 0.1)
    for shift in (-0.1, 0.0, 0.05, 0.1):
        out = layer((x + shift).clamp(x - 0.1, x + 0.1), math.inf)
        assert (lower <= out).all() and (out <= upper).all()


def test_the_gradient_reaches_the_weights() -> None:
    layer = DistanceLinear(6, 4)
    for p in (8.0, 20.5, math.inf):
        layer.zero_grad()
        layer(torch.randn(5, 6), p).sum().backward()
        assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_layers_without_inputs_or_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 of each"):
        DistanceLinear(0, 4)
