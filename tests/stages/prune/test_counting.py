import math
from functools import partial

import torch

import kernels
from stages.data.batches import in_order
from stages.data.in_memory import load_split
from stages.data.manifest import read_manifest


def test_counts_are_those_of_one_image_at_a_time(data_dir, network, tools) -> None:
    images = load_split(data_dir, read_manifest(data_dir), "train")
    found = tools.pruner_of(network).count_uses(tools.normalisation, partial(in_order, images, 64))
    expected = [torch.zeros_like(layer.weight, dtype=torch.int64) for layer in network.distances]
    for batch in in_order(images, 1):
        x = tools.normalisation.apply(batch.images).flatten(1)
        for number, layer in enumerate(network.distances):
            for output, edge in enumerate(
                kernels.linf_distance_argmax(x, layer.weight)[1][0].tolist()
            ):
                expected[number][output, edge] += 1
            if number < len(network.hidden):
                x = network.hidden[number](x, math.inf)
    for counts, right in zip(found, expected, strict=True):
        assert torch.equal(counts, right)


def test_every_image_is_counted_once_for_every_output(data_dir, network, tools) -> None:
    images = load_split(data_dir, read_manifest(data_dir), "train")
    for batch_size in (7, 300):
        counts = tools.pruner_of(network).count_uses(
            tools.normalisation, partial(in_order, images, batch_size)
        )
        assert all((layer.sum(1) == len(images)).all() for layer in counts)


def test_counting_leaves_the_network_as_it_is(data_dir, network, tools) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = load_split(data_dir, read_manifest(data_dir), "train")
    tools.pruner_of(network).count_uses(tools.normalisation, partial(in_order, images, 100))
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
