import math

import pytest
import torch

from kernels.layers.distance_linear import IDENTITY_WEIGHT
from stages.models.linf.identity_gradient_mask import (
    DECIDES_TO,
    decided_share,
    mask_identity_gradients,
)
from stages.models.linf.network import build_network


@pytest.mark.parametrize("far, share", [(0.5, 0.0), (1.5, 0.5), (3.0, 1.0)])
def test_the_share_is_0_up_to_a_part_in_a_thousand_then_rises_to_1(far, share) -> None:
    x, entries = torch.tensor([[0.0], [1.0]]), torch.tensor([-10.0])
    least = (1 - far * DECIDES_TO) ** (1 / 7)
    y = torch.tensor([[10.0], [11.0 / least]])
    assert decided_share(x, entries, y, p=8.0).item() == pytest.approx(share, abs=1e-3)


def test_at_infinity_an_entry_decides_or_not() -> None:
    x, entries = torch.tensor([[0.0, 2.0], [1.0, 3.0]]), torch.tensor([-10.0, -10.0, -10.0])
    y = torch.tensor([[10.0, 12.0, 10.0], [11.0, 13.1, 11.0]])
    assert decided_share(x, entries, y, math.inf).tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("p", [100.0, math.inf])
def test_only_entries_that_decide_for_all_images_lose_their_gradient(tiny, p) -> None:
    torch.manual_seed(0)
    network = build_network(tiny().network, (2, 2, 1), 3).train()
    images, labels = torch.randn(20, 1, 2, 2), torch.arange(20) % 3
    network.hidden[1].distance.weight.data[3] = torch.randn(16)  # row 3 passes nothing on

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network.worst_case(images, labels, p, 0.1).worst.sum().backward()
        return [layer.distance.weight.grad.clone() for layer in network.hidden]

    before = gradients()
    mask_identity_gradients(network)
    for layer, plain, left in zip(network.hidden, before, gradients(), strict=True):
        decides = layer.distance.weight == IDENTITY_WEIGHT
        assert torch.equal(left[~decides], plain[~decides])
        assert (left[decides] == 0).all()
        assert 0 < plain[decides].abs().max() < 1e-6  # noise; gradients that are none reach 1
