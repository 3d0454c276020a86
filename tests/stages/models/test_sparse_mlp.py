"""A network in compressed rows: the same network as a full one, to every prover."""

import math

import pytest
import torch

from kernels import SparseRows
from kernels.layers import Box
from pipeline.errors import StageError, UserError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, SparseMLPSettings
from stages.models.linf.float_error import features_reached, float_slack
from stages.models.linf.float_prover import FloatProver
from stages.models.linf.network import LinfNetwork, build_network
from stages.models.linf.quantise import quantise
from stages.models.network_file import load_network, save_network

SHAPE = (4, 4, 1)
NORMALISATION = Normalisation((0.3,), 0.35)


def full_network() -> LinfNetwork:
    torch.manual_seed(0)
    settings = DistanceMLPSettings(kind="distance_mlp", width=16, depth=3)
    network = build_network(settings, SHAPE, 3)
    network(torch.randn(50, 1, 4, 4), math.inf)
    return network.eval()


def sparse_network(share: float) -> LinfNetwork:
    """The full network of which about a share of the edges is kept, with some floors."""
    full = full_network()
    weights = [layer.weight for layer in full.distances]
    torch.manual_seed(1)
    rows = []
    for weight in weights:
        keep = torch.rand_like(weight) < share
        floor = torch.zeros(len(weight)) if share == 1 else 5 * torch.rand(len(weight))
        rows.append(SparseRows.from_dense(weight.detach(), keep, floor))
    network = build_network(
        SparseMLPSettings(
            kind="sparse_mlp", widths=[16, 16, 3], num_edges=[len(row.values) for row in rows]
        ),
        SHAPE,
        [16, 16, 3][-1],
    )
    for layer, row in zip(network.distances, rows, strict=True):
        layer.set_rows(row)
    for mine, other in zip(network.hidden, full.hidden, strict=True):
        mine.centering.running_mean.copy_(other.centering.running_mean)
    return network.eval()


def pixels_of(num: int, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (num, 1, 4, 4), generator=generator, dtype=torch.uint8)


def images(num: int, seed: int = 2) -> torch.Tensor:
    return NORMALISATION.apply(pixels_of(num, seed))


def test_with_every_edge_kept_every_proof_is_that_of_the_full_network() -> None:
    full, sparse = full_network(), sparse_network(1.0)
    slacks = [
        float_slack(network.head, features_reached(network, NORMALISATION))
        for network in (full, sparse)
    ]
    assert slacks[0] == slacks[1]
    x, labels = images(40), torch.arange(40) % 3
    provers = [FloatProver(network, NORMALISATION) for network in (full, sparse)]
    proofs = [prover.by_margin(pixels_of(40), labels) for prover in provers]
    for ours, theirs in zip(*proofs, strict=True):
        assert torch.equal(ours, theirs)
    boxes = [network.bounds(Box(x - 0.1, x + 0.1)) for network in (full, sparse)]
    for one, other in zip(*boxes, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_few_edges_are_1_lipschitz_and_bounded() -> None:
    network, x, eps = sparse_network(0.3), images(30), 0.2
    lower, upper = network.bounds(Box(x - eps, x + eps))
    for seed in range(20):
        noise = 2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) - 1
        moved = network(x + eps * noise.sign(), math.inf)
        assert ((moved - network(x, math.inf)).abs() <= eps + 1e-5).all()
        assert (moved >= lower).all()
        assert (moved <= upper).all()


def test_a_network_of_few_edges_comes_back_from_its_file(tmp_path) -> None:
    network = sparse_network(0.3)
    edges = [len(layer.weight) for layer in network.distances]
    settings = SparseMLPSettings(kind="sparse_mlp", widths=(16, 16, 3), num_edges=tuple(edges))
    save_network(
        tmp_path,
        network,
        settings,
        dataset="toys",
        image_shape=SHAPE,
        classes=("a", "b", "c"),
        normalisation=NORMALISATION,
    )
    loaded = load_network(tmp_path)
    assert loaded.settings == settings
    assert torch.equal(loaded.network(images(9), math.inf), network(images(9), math.inf))


def test_a_file_whose_classes_are_not_the_logits_is_refused(tmp_path) -> None:
    network = sparse_network(1.0)
    settings = SparseMLPSettings(kind="sparse_mlp", widths=(16, 16, 3), num_edges=(256, 256, 48))
    save_network(
        tmp_path,
        network,
        settings,
        dataset="toys",
        image_shape=SHAPE,
        classes=("a", "b", "c", "d"),
        normalisation=NORMALISATION,
    )
    with pytest.raises(StageError, match=r"head has 3 outputs, but there are 4 classes"):
        load_network(tmp_path)


def test_nan_weights_prove_nothing() -> None:
    network = sparse_network(0.5)
    with torch.no_grad():
        network.head.distance.floor[0] = math.nan
    with pytest.raises(UserError, match=r"head.distance.floor holds 1 numbers that are NaN"):
        FloatProver(network, NORMALISATION)


@pytest.mark.parametrize("p", [8.0, 100.0])
def test_gradients_at_finite_p_are_those_of_the_full_network(p: float) -> None:
    grads = []
    for network in (full_network(), sparse_network(1.0)):
        x = images(5).requires_grad_()
        (grad,) = torch.autograd.grad(network(x, p).square().sum(), x)
        grads.append(grad)
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-4)


def test_widths_and_edges_must_have_one_entry_a_layer() -> None:
    with pytest.raises(ValueError, match=r"one entry a layer"):
        SparseMLPSettings(kind="sparse_mlp", widths=(4, 3), num_edges=(5,))


def test_dense_and_sparse_rows_give_identical_integers() -> None:
    pixels = torch.randint(0, 256, (70, 1, 4, 4), dtype=torch.uint8)
    full, sparse = (
        quantise(network, NORMALISATION, SHAPE, 5)
        for network in (full_network(), sparse_network(1.0))
    )
    assert torch.equal(sparse.outputs_of(pixels), full.outputs_of(pixels))
    points = full.points(pixels)
    box = Box((points - 90).clamp(min=0), (points + 90).clamp(max=full.units_per_pixel))
    for ours, theirs in zip(sparse.output_bounds(box), full.output_bounds(box), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("num_images", [1, 70])
def test_one_call_gives_the_integers_of_layer_after_layer(num_images: int) -> None:
    network = quantise(sparse_network(0.3), NORMALISATION, SHAPE, 5)
    pixels = torch.randint(0, 256, (num_images, 1, 4, 4), dtype=torch.uint8)
    x = network.points(pixels).flatten(1)
    for layer in network.layers:
        x = layer(x)
    assert torch.equal(network.outputs_of(pixels), x)
    assert torch.equal(network.outputs(network.points(pixels)), x)
