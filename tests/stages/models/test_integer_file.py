"""The shipped integer network: whole, and distrusted."""

import hashlib
import json

import pytest
import safetensors.torch
import torch

from kernels import SparseRows
from pipeline.errors import StageError
from stages.models.images import Normalisation
from stages.models.linf.config import DistanceMLPSettings, HybridSettings, SparseMLPSettings
from stages.models.linf.integer_file import load_integer_network, save_integer_network
from stages.models.linf.network import build_network
from stages.models.linf.quantise import quantise
from stages.models.network_file import LoadedNetwork

NORMALISATION = Normalisation((0.3,), 0.35)
SHAPE = (2, 3, 1)
CLASSES = ("a", "b", "c")
WEIGHTS, DESCRIPTION = "network.int.safetensors", "network.int.json"


def source_of(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "sparse":
            network = build_network(
                SparseMLPSettings(kind="sparse_mlp", widths=(4, 3), num_edges=(9, 7)),
                SHAPE,
                (4, 3)[-1],
            )
            for layer, fan_in in ((network.hidden[0].distance, 6), (network.head.distance, 4)):
                keep = torch.zeros(layer.num_outputs * fan_in, dtype=torch.bool)
                keep[torch.randperm(len(keep))[: len(layer.weight)]] = True
                keep = keep.view(layer.num_outputs, fan_in)
                layer.set_rows(SparseRows.from_dense(torch.randn(keep.shape), keep))
        elif kind == "hybrid":
            network = build_network(
                HybridSettings(kind="hybrid", width=5, depth=2, hidden=4), SHAPE, 3
            )
        else:
            network = build_network(
                DistanceMLPSettings(kind="distance_mlp", width=5, depth=2), SHAPE, 3
            )
    settings = DistanceMLPSettings(kind="distance_mlp", width=5, depth=2)
    return LoadedNetwork(network.eval(), settings, "toy", SHAPE, CLASSES, NORMALISATION, "a" * 64)


def saved(folder, kind="distance", bits=3):
    source = source_of(kind)
    network = quantise(source.network, NORMALISATION, SHAPE, bits)
    save_integer_network(folder, network, source)
    return network


def spoil_description(folder, **changes):
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil_tensors(folder, change):
    """Change the weights and sign them anew, as a forger would."""
    tensors = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    change(tensors)
    content = safetensors.torch.save(tensors)
    (folder / WEIGHTS).write_bytes(content)
    spoil_description(folder, weights_sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("kind", ["distance", "hybrid", "sparse"])
@pytest.mark.parametrize("bits", [3, 12])
def test_a_network_comes_back_to_the_last_bit(tmp_path, kind, bits):
    network = saved(tmp_path, kind, bits)
    loaded = load_integer_network(tmp_path)
    assert loaded.network.dtype == (torch.int16 if bits == 3 else torch.int32)
    assert (loaded.dataset, loaded.classes, loaded.source_sha256) == ("toy", CLASSES, "a" * 64)
    assert loaded.network.normalisation == NORMALISATION
    images = torch.arange(60, dtype=torch.uint8).view(10, 1, 2, 3)
    points = network.points(images)
    assert torch.equal(loaded.network.outputs(points), network.outputs(points))
    if kind == "hybrid":
        ours = loaded.network.head.tensors()
        assert ours.keys() == network.head.tensors().keys()
        for name, tensor in network.head.tensors().items():
            assert torch.equal(ours[name], tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DESCRIPTION, WEIGHTS]


def test_the_description_says_what_every_layer_reaches(tmp_path):
    network = saved(tmp_path)
    layers = json.loads((tmp_path / DESCRIPTION).read_text())["layers"]
    for layer, span in zip(layers, network.ranges(), strict=True):
        assert layer["kind"] == "dense"
        assert layer["largest_difference"] == span.largest_difference


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StageError, match=r"network\.int\.json: cannot be read"):
        load_integer_network(tmp_path)
    saved(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(StageError, match=r"network\.int\.safetensors is missing"):
        load_integer_network(tmp_path)


def test_a_flipped_byte_is_found(tmp_path):
    saved(tmp_path)
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(StageError, match="damaged: its sha256"):
        load_integer_network(tmp_path)


def test_weights_that_could_overflow_are_refused_even_if_signed(tmp_path):
    saved(tmp_path)
    spoil_tensors(tmp_path, lambda tensors: tensors["layers.0.weight"].fill_(-32767))
    with pytest.raises(StageError, match="layer 0 can overflow int16"):
        load_integer_network(tmp_path)


def test_another_weight_contradicts_what_the_description_says(tmp_path):
    saved(tmp_path)
    spoil_tensors(tmp_path, lambda tensors: tensors["layers.1.offset"].add_(1))
    with pytest.raises(StageError, match="layer 1 reaches"):
        load_integer_network(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop("layers.0.offset"), "layers.0.offset"),
        (lambda t: t.update({"layers.0.weight": t["layers.0.weight"].int()}), "expected torch.int"),
        (lambda t: t.update({"layers.0.weight": t["layers.0.weight"][:4]}), "expected"),
        (lambda t: t["head.first.weight"].fill_(float("nan")), "NaN"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, spoil, message):
    saved(tmp_path, "hybrid")
    spoil_tensors(tmp_path, spoil)
    with pytest.raises(StageError, match=f"does not fit .*{message}"):
        load_integer_network(tmp_path)


@pytest.mark.parametrize("name", ["columns", "starts", "floor"])
def test_edges_that_lead_nowhere_are_refused(tmp_path, name):
    saved(tmp_path, "sparse")
    spoil_tensors(tmp_path, lambda tensors: tensors[f"layers.0.{name}"].sub_(1))
    with pytest.raises(StageError, match=r"edges that lead nowhere|a floor below 0"):
        load_integer_network(tmp_path)


def test_a_description_that_is_none_is_named(tmp_path):
    saved(tmp_path)
    spoil_description(tmp_path, fraction_bits=99)
    with pytest.raises(StageError, match=r"network\.int\.json: damaged at fraction_bits"):
        load_integer_network(tmp_path)
    spoil_description(tmp_path, fraction_bits=3, classes=("a", "b"))
    with pytest.raises(StageError, match="3 logits for 2 classes"):
        load_integer_network(tmp_path)


@pytest.mark.parametrize("kind", ["layer", "../dense", "convolution"])
def test_an_unknown_kind_of_layer_is_refused(tmp_path, kind):
    saved(tmp_path)
    layers = json.loads((tmp_path / DESCRIPTION).read_text())["layers"]
    spoil_description(tmp_path, layers=[{**layer, "kind": kind} for layer in layers])
    with pytest.raises(StageError, match=r"no kind of layer is called|damaged at layers.0.kind"):
        load_integer_network(tmp_path)
