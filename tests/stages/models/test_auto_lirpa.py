"""Our bounds of a hybrid's head beside those of an independent library, auto_LiRPA.

Its releases refuse this project's version of torch, so it is no dependency: docs/certificates.md
says how to run this beside its source, and what was found.
"""

import math
import warnings

import pytest
import torch
from torch import nn

from kernels.layers import Box
from stages.models.linf.config import HybridSettings
from stages.models.linf.head_bounds import HeadBounds
from stages.models.linf.network import build_network

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    auto_lirpa = pytest.importorskip("auto_LiRPA", reason="see docs/certificates.md")

WIDTH, HIDDEN, CLASSES, COUNT = 64, 128, 10, 50


def hybrid(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return (
            build_network(
                HybridSettings(kind="hybrid", width=WIDTH, depth=1, hidden=HIDDEN),
                (1, 1, 1),
                CLASSES,
            )
            .eval()
            .requires_grad_(False)
        )


def boxes(seed):
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(COUNT, WIDTH, generator=generator)
    half = 0.3 * torch.rand(COUNT, WIDTH, generator=generator)
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    return Box(centre - half, centre + half), labels


def their_bounds(head, box, specification=None):
    centre = (box.lower + box.upper) / 2
    norm = {"norm": math.inf, "x_L": box.lower, "x_U": box.upper}
    ball = auto_lirpa.BoundedTensor(centre, auto_lirpa.perturbations.PerturbationLpNorm(**norm))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bounded = auto_lirpa.BoundedModule(head, torch.empty_like(centre))
        return bounded.compute_bounds(x=(ball,), C=specification, method="IBP")


@pytest.mark.parametrize("seed", range(5))
def test_logit_bounds_agree(seed):
    network, (box, _) = hybrid(seed), boxes(seed)
    head = nn.Sequential(network.head.first, nn.Tanh(), network.head.second)
    for ours, theirs in zip(network.head.bounds(box), their_bounds(head, box), strict=True):
        print(f"largest difference {(ours - theirs).abs().max():.1e}")
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(5))
def test_merged_differences_agree_and_ours_are_rounded_outwards(seed):
    network, (box, labels) = hybrid(seed), boxes(seed)
    box = Box(box.lower.double(), box.upper.double())
    head = nn.Sequential(network.head.first, nn.Tanh(), network.head.second).double()
    rows = torch.eye(CLASSES, dtype=torch.float64)
    # One row for each class but the label: z_j - z_y.
    specification = torch.stack(
        [
            torch.stack([rows[j] - rows[y] for j in range(CLASSES) if j != y])
            for y in labels.tolist()
        ]
    )
    theirs = their_bounds(head, box, specification)[1].amax(1)
    bounds = HeadBounds(network.head.first, network.head.second)
    middle, error = bounds.before_tanh((box.lower + box.upper) / 2)
    reach = bounds.spread((box.upper - box.lower) / 2) + error
    ours = bounds.worst_difference(middle, reach, labels)
    print(f"largest difference {(ours - theirs).abs().max():.1e}")
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours >= theirs - 1e-12).all()
