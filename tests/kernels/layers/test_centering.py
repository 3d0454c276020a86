import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kernels.layers import Centering


@pytest.mark.parametrize("first_batch", [5, 7])
def test_two_ranks_give_the_values_and_gradients_of_one_process(
    tmp_path: Path, first_batch: int
) -> None:
    """Unequal batches, one of them empty at last: samples weigh the same, not ranks."""
    samples, weights = torch.randn(7, 3) + 2, torch.randn(7, 3)
    torch.save(samples, tmp_path / "samples.pt")
    torch.save(weights, tmp_path / "weights.pt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, str(Path(__file__).with_name("centering_rank.py"))]
    ranks = [
        subprocess.Popen([*program, str(rank), str(port), str(tmp_path), str(first), str(last)])
        for rank, (first, last) in enumerate([(0, first_batch), (first_batch, 7)])
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]

    x = samples.clone().requires_grad_()
    layer = Centering(3)
    out = layer(x)
    (out.square() * weights).sum().backward()
    assert x.grad is not None
    assert torch.allclose(torch.cat([part[0] for part in parts]), out, atol=1e-6)
    assert torch.allclose(torch.cat([part[1] for part in parts]), x.grad, atol=1e-6)
    for part in parts:
        assert torch.allclose(part[2], layer.running_mean, atol=1e-6)


def test_training_subtracts_the_batch_mean_and_moves_the_running_mean() -> None:
    layer = Centering(2)
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    assert torch.equal(layer(x), torch.tensor([[-1.0, -10.0], [1.0, 10.0]]))
    assert torch.allclose(layer.running_mean, torch.tensor([0.2, 2.0]))


def test_gradient_flows_through_the_mean() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    Centering(3)(x)[0].sum().backward()
    expected = torch.full((4, 3), -0.25)
    expected[0] += 1
    assert x.grad is not None and torch.allclose(x.grad, expected)


def test_evaluation_subtracts_the_running_mean_and_leaves_it() -> None:
    layer = Centering(2).eval()
    layer.running_mean.copy_(torch.tensor([1.0, 2.0]))
    assert torch.equal(layer(torch.zeros(3, 2)), torch.tensor([[-1.0, -2.0]] * 3))
    assert torch.equal(layer.running_mean, torch.tensor([1.0, 2.0]))


def test_bounds_are_shifted_in_evaluation_and_refused_in_training() -> None:
    layer = Centering(2)
    lower, upper = torch.zeros(3, 2), torch.ones(3, 2)
    with pytest.raises(RuntimeError, match="only; call"):
        layer.bounds(lower, upper)
    layer.eval().running_mean.fill_(0.5)
    box = layer.bounds(lower, upper)
    assert torch.equal(box.lower, lower - 0.5) and torch.equal(box.upper, upper - 0.5)


def test_channels_are_centred_over_the_batch_and_all_positions() -> None:
    x = torch.randn(4, 3, 5, 2)
    rows = x.permute(0, 2, 3, 1).reshape(-1, 3)
    layer, flat = Centering(3), Centering(3)
    expected = flat(rows).view(4, 5, 2, 3).permute(0, 3, 1, 2)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.running_mean, flat.running_mean)
    layer.eval(), flat.eval()
    expected = flat(rows).view(4, 5, 2, 3).permute(0, 3, 1, 2)
    assert torch.equal(layer(x), expected)
    box = layer.bounds(x, x + 1)
    assert torch.equal(box.lower, layer(x)) and torch.equal(box.upper, layer(x + 1))


def test_an_empty_batch_or_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is empty"):
        Centering(2)(torch.zeros(0, 2))
    with pytest.raises(ValueError, match="expected \\(batch, 2\\)"):
        Centering(2)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="expected \\(batch, 2\\)"):
        Centering(2)(torch.zeros(2))


@pytest.mark.parametrize(("num_features", "momentum"), [(0, 0.1), (3, 0.0), (3, 1.5)])
def test_impossible_settings_are_refused(num_features: int, momentum: float) -> None:
    with pytest.raises(ValueError, match="Centering: "):
        Centering(num_features, momentum)
