"""Rounding to whole numbers, and the proof that they fit."""

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import SparseRows
from kernels.layers import Box
from pipeline.errors import UserError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings, SparseMLPSettings
from stages.models.linf.heads.distance import NearestClass
from stages.models.linf.integer_layer import IntegerLayer
from stages.models.linf.integer_network import IntegerNetwork
from stages.models.linf.layers.dense import DenseWeights
from stages.models.linf.network import build_network
from stages.models.linf.quantise import dequantise, quantise

COLOUR = Normalisation((0.4914, 0.4822, 0.4465), 0.2009)
SHAPE = (2, 2, 3)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def network_of(kind, seed=0, size=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        built = (
            build_network(DistanceMLPSettings(kind="distance_mlp", width=16, depth=3), SHAPE, 4)
            if kind == "distance"
            else build_network(HybridSettings(kind="hybrid", width=16, depth=2, hidden=8), SHAPE, 4)
        )
        for layer in built.hidden:
            layer.centering.running_mean.normal_(10.0, 0.3)
        if kind == "distance":
            built.head.bias.data.normal_()
        for parameter in built.parameters():
            parameter.data.mul_(size)
    return built.eval()


def integers_of(network, bits=3, normalisation=COLOUR):
    return quantise(network, normalisation, SHAPE, bits)


def images_of(count, seed=0):
    return torch.randint(256, (count, 3, 2, 2), dtype=torch.uint8, generator=generator(seed))


def in_python(network, points):
    """The layers in Python integers, one list of outputs an image."""
    rows = points.flatten(1).tolist()
    for layer in network.layers:
        weights, offsets = layer.weights.weight.tolist(), layer.offset.tolist()
        rows = [
            [
                max(abs(x - w) for x, w in zip(row, weight, strict=True)) - offset
                for weight, offset in zip(weights, offsets, strict=True)
            ]
            for row in rows
        ]
    return rows


def test_weights_are_rounded_in_pixels_with_the_normalisation_folded_in():
    network = build_network(
        DistanceMLPSettings(kind="distance_mlp", width=1, depth=1), (1, 1, 3), 2
    ).eval()
    with torch.no_grad():
        network.head.distance.weight.copy_(torch.tensor([[0.0, 1.0, -1.0], [0.5, 0.25, 2.0]]))
        network.head.bias.copy_(torch.tensor([0.0, 0.125]))
    found = quantise(network, COLOUR, (1, 1, 3), 2)
    std, means = Fraction(COLOUR.std), [Fraction(mean) for mean in COLOUR.mean]
    for row, weights in zip(
        found.layers[0].weights.weight, network.head.distance.weight, strict=True
    ):
        pairs = zip(weights.tolist(), means, strict=True)
        assert row.tolist() == [round(1020 * (std * Fraction(w) + mean)) for w, mean in pairs]
    assert found.layers[0].offset.tolist() == [0, round(-1020 * std / 8)]
    assert found.units_per_pixel == 1020


@pytest.mark.parametrize("bits", [0, 3, 12])
def test_outputs_are_those_of_python_integers(bits):
    network = integers_of(network_of("distance"), bits)
    points = network.points(images_of(20))
    assert network.outputs(points).tolist() == in_python(network, points)


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_a_fine_integer_network_is_close_to_the_float_one(kind):
    float_network = network_of(kind)
    images = images_of(50)
    features = float_network.features(COLOUR.apply(images), math.inf)
    network = integers_of(float_network, 12)
    found = network.outputs(network.points(images)) / (network.units_per_pixel * COLOUR.std)
    wanted = features if kind == "hybrid" else -float_network(COLOUR.apply(images), math.inf)
    torch.testing.assert_close(found.float(), wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", ["distance", "hybrid"])
def test_the_float_twin_is_the_integer_network(kind):
    network = integers_of(network_of(kind), 5)
    twin = dequantise(network)
    images = images_of(30)
    features = twin.features(COLOUR.apply(images), math.inf)
    found = network.outputs(network.points(images)) / (network.units_per_pixel * COLOUR.std)
    wanted = features if kind == "hybrid" else -twin(COLOUR.apply(images), math.inf)
    torch.testing.assert_close(found.float(), wanted, atol=2e-5, rtol=0)
    assert not twin.training and not any(part.requires_grad for part in twin.parameters())


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), bits=st.integers(0, 10), reach=st.integers(0, 300))
def test_outputs_move_no_more_than_points_do(seed, bits, reach):
    network = integers_of(network_of("distance", seed), bits)
    points = network.points(images_of(10, seed)).int()
    moves = torch.randint(-reach, reach + 1, points.shape, generator=generator(seed))
    moved = (points + moves).clamp(0, network.units_per_pixel)
    change = network.outputs(moved.to(network.dtype)).long() - network.outputs(
        points.to(network.dtype)
    )
    assert change.abs().max() <= (moved - points).abs().max()


def test_every_image_and_every_box_is_within_the_ranges():
    network = integers_of(network_of("distance"), 5)
    span = network.ranges()[-1]
    points = network.points(images_of(200))
    outputs = network.outputs(points)
    assert span.smallest_output <= outputs.min() and outputs.max() <= span.largest_output
    whole = Box(torch.zeros_like(points[:1]), torch.full_like(points[:1], network.units_per_pixel))
    lower, upper = network.output_bounds(whole)
    assert (lower.min(), upper.max()) == (span.smallest_output, span.largest_output)


def test_bounds_hold_every_point_of_a_box():
    network = integers_of(network_of("distance"), 4)
    points = network.points(images_of(20)).int()
    limits = (0, network.units_per_pixel)
    box = Box((points - 90).clamp(*limits), (points + 90).clamp(*limits))
    lower, upper = network.output_bounds(Box(*(end.to(network.dtype) for end in box)))
    for seed in range(20):
        share = torch.rand(points.shape, generator=generator(seed))
        inside = (box.lower + share * (box.upper - box.lower)).to(network.dtype)
        outputs = network.outputs(inside)
        assert (lower <= outputs).all() and (outputs <= upper).all()


def test_points_outside_the_images_and_empty_boxes_are_refused():
    network = integers_of(network_of("distance"), 4)
    points = network.points(images_of(2))
    for wrong in (points - 4096, points + 4096):
        with pytest.raises(ValueError, match="between 0 and 4,080 units"):
            network.outputs(wrong)
        with pytest.raises(ValueError, match="between 0 and 4,080 units"):
            network.output_bounds(Box(*torch.stack((wrong, points)).sort(0).values))
    with pytest.raises(ValueError, match="lower end above"):
        network.output_bounds(Box(points + 1, points))
    assert network.outputs(points[:0]).shape == (0, 4)


def test_16_bits_serve_while_they_hold_everything_and_32_from_then_on():
    network = network_of("distance")
    dtypes = [integers_of(network, bits).dtype for bits in range(17)]
    finest = dtypes.index(torch.int32)
    assert 3 <= finest <= 7
    assert set(dtypes[:finest]) == {torch.int16} and set(dtypes[finest:]) == {torch.int32}
    wide = integers_of(network, finest)
    largest = max(span.largest_number for span in wide.ranges())
    weights = max(layer.largest_weight for layer in wide.layers)
    assert max(largest, weights, wide.units_per_pixel) > torch.iinfo(torch.int16).max


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_numbers_that_32_bits_do_not_hold_are_refused(size):
    with pytest.raises(UserError, match="32 bits"):
        integers_of(network_of("distance", size=size), 12)


def test_compressed_rows_give_the_integers_of_the_dense_network():
    dense = network_of("distance")
    sparse = build_network(
        SparseMLPSettings(
            kind="sparse_mlp", widths=(16, 16, 4), num_edges=(16 * 12, 16 * 16, 4 * 16)
        ),
        SHAPE,
        (16, 16, 4)[-1],
    ).eval()
    few_layers = sparse.distances
    full_layers = dense.distances
    for ours, theirs in zip(few_layers, full_layers, strict=True):
        weight = theirs.weight.detach()
        ours.set_rows(SparseRows.from_dense(weight, torch.ones_like(weight, dtype=torch.bool)))
    for ours, theirs in zip(sparse.hidden, dense.hidden, strict=True):
        ours.centering.running_mean.copy_(theirs.centering.running_mean)
    sparse.head.bias.data.copy_(dense.head.bias)
    few, full = integers_of(sparse), integers_of(dense)
    points = full.points(images_of(20))
    assert few.layers[0].weights.kind == "sparse" and few.dtype == full.dtype
    assert torch.equal(few.outputs(points), full.outputs(points))
    for one, other in zip(
        few.output_bounds(Box(points, points)), full.output_bounds(Box(points, points)), strict=True
    ):
        assert torch.equal(one, other)
    assert few.ranges() == full.ranges()
    images = images_of(9)
    torch.testing.assert_close(
        dequantise(few)(COLOUR.apply(images), math.inf),
        dequantise(full)(COLOUR.apply(images), math.inf),
    )


def test_a_rows_floor_is_scaled_like_its_weights():
    sparse = build_network(
        SparseMLPSettings(kind="sparse_mlp", widths=(2,), num_edges=(1,)), (1, 1, 3), (2,)[-1]
    ).eval()
    rows = SparseRows(
        torch.tensor([0.5]),
        torch.tensor([1], dtype=torch.int16),
        torch.tensor([0, 1, 1], dtype=torch.int32),
        torch.tensor([0.0, 0.75]),
    )
    sparse.head.distance.set_rows(rows)
    layer = quantise(sparse, COLOUR, (1, 1, 3), 4).layers[0]
    assert layer.weights.rows.floor.tolist() == [0, round(4080 * COLOUR.std * 0.75)]
    assert layer.weights.rows.values.tolist() == [round(4080 * (COLOUR.std * 0.5 + COLOUR.mean[1]))]


def test_a_network_moves_to_a_device_whole():
    network = integers_of(network_of("hybrid"))
    moved = network.to("meta")
    assert moved.device.type == "meta" and moved.head.first.weight.device.type == "meta"
    assert network.head.first.weight.device.type == "cpu"
    assert replace(network, layers=moved.layers).dtype == network.dtype


def test_a_layers_numbers_are_its_weights_floors_and_offsets():
    layer = IntegerLayer(DenseWeights(torch.tensor([[3, -7]])), torch.tensor([5]))
    assert layer.largest_weight == 7
    network = IntegerNetwork(0, (1, 2, 1), COLOUR, (layer,), NearestClass())
    assert network.fan_ins == (2,)
