"""The file pair that ships an integer network: what was certified, to the last bit.

`network.int.safetensors` holds whole numbers (int16 or int32), and what its head adds;
`network.int.json` what they mean, the images they expect, and what every layer can reach.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, write_atomic
from stages.models.images import Normalisation
from stages.models.linf.heads.head import integer_head_of
from stages.models.linf.integer_layer import IntegerLayer
from stages.models.linf.integer_network import MOST_FRACTION_BITS, IntegerNetwork
from stages.models.linf.layers.layer import TensorReader, weights_of
from stages.models.network_file import LoadedNetwork, read_weights

INTEGER_WEIGHTS_NAME = "network.int.safetensors"
INTEGER_DESCRIPTION_NAME = "network.int.json"

Kind = Field(pattern=r"^[a-z_]+$")


class LayerDescription(FrozenModel):
    """One layer: y_o = max_i |x_i - weight_oi| - offset_o, over the inputs that its kind keeps."""

    kind: str = Kind
    """Of `layers/<kind>.py`, which says what tensors `layers.<n>.*` there are beside the
    `offset` (O,). `dense`: a `weight` (O, I). `sparse`: compressed rows, `values` and `columns`
    (E,) and `starts` (O + 1,), and a `floor` (O,) that no distance is below."""
    num_inputs: int = Field(ge=1)
    num_outputs: int = Field(ge=1)
    smallest_output: int
    """Over all images there are, by interval arithmetic; likewise the next two."""
    largest_output: int
    largest_difference: int
    """Largest |x_i - weight_oi|: no number on the way to an output is larger."""


class IntegerDescription(FrozenModel):
    """Contents of network.int.json."""

    format_version: Literal[2] = 2
    fraction_bits: int = Field(ge=0, le=MOST_FRACTION_BITS)
    """F: pixel value v enters as 2^F v, and one unit is 1 / (255 * 2^F) of a pixel in [0, 1]."""
    dtype: Literal["int16", "int32"]
    layers: tuple[LayerDescription, ...] = Field(min_length=1)
    head: str = Kind
    """Of `heads/<kind>.py`. `distance`: the logits are minus the last layer's outputs. `mlp`:
    tensors `head.first.*` and `head.second.*`, float32, Linear - tanh - Linear, applied to the
    outputs divided by 255 * 2^F * std."""
    dataset: str
    image_shape: tuple[int, int, int]
    """(H, W, C); inputs are numbered channel by channel, each row by row."""
    classes: tuple[str, ...] = Field(min_length=2)
    mean: tuple[float, ...]
    std: float
    source_sha256: str
    """Of the network.safetensors that this network was rounded from."""
    weights_sha256: str


@dataclass(frozen=True)
class LoadedIntegerNetwork:
    """An integer network and all that is known about it."""

    network: IntegerNetwork
    dataset: str
    classes: tuple[str, ...]
    source_sha256: str
    weights_sha256: str


def save_integer_network(folder: Path, network: IntegerNetwork, source: LoadedNetwork) -> None:
    """Write both files; the description last, each whole or not at all.

    Args:
        folder: an existing folder, that no other rank writes to.
        network: on the CPU.
        source: what it was rounded from.
    """
    weights = safetensors.torch.save(_tensors(network))
    spans = zip(network.layers, network.ranges(), network.fan_ins, strict=True)
    description = IntegerDescription(
        fraction_bits=network.fraction_bits,
        dtype="int16" if network.dtype == torch.int16 else "int32",
        layers=tuple(
            LayerDescription(
                kind=layer.weights.kind,
                num_inputs=fan_in,
                num_outputs=len(layer.offset),
                smallest_output=span.smallest_output,
                largest_output=span.largest_output,
                largest_difference=span.largest_difference,
            )
            for layer, span, fan_in in spans
        ),
        head=network.head.kind,
        dataset=source.dataset,
        image_shape=network.image_shape,
        classes=source.classes,
        mean=network.normalisation.mean,
        std=network.normalisation.std,
        source_sha256=source.weights_sha256,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    write_atomic(folder / INTEGER_WEIGHTS_NAME, weights)
    write_atomic(folder / INTEGER_DESCRIPTION_NAME, description.model_dump_json(indent=2) + "\n")


def load_integer_network(folder: Path) -> LoadedIntegerNetwork:
    """Read what `save_integer_network` wrote, and prove again that nothing can overflow.

    Returns:
        The network on the CPU.

    Raises:
        StageError: a file is missing or damaged, or the two contradict each other.
    """
    path = folder / INTEGER_DESCRIPTION_NAME
    again = "run a certify stage with certifier: {kind: exact}"
    description = read_json(path, IntegerDescription, again)
    tensors = read_weights(folder / INTEGER_WEIGHTS_NAME, description.weights_sha256)
    try:
        network = _network(description, tensors)
    except (KeyError, ValueError) as error:
        raise StageError(
            f"{folder / INTEGER_WEIGHTS_NAME} does not fit {path.name} beside it: {error}; {again}"
        ) from None
    return LoadedIntegerNetwork(
        network,
        description.dataset,
        description.classes,
        description.source_sha256,
        description.weights_sha256,
    )


def _tensors(network: IntegerNetwork) -> dict[str, Tensor]:
    tensors = {f"head.{name}": part for name, part in network.head.tensors().items()}
    for number, layer in enumerate(network.layers):
        for name, part in (layer.weights.tensors() | {"offset": layer.offset}).items():
            tensors[f"layers.{number}.{name}"] = part
    return {name: part.contiguous() for name, part in tensors.items()}


def _network(description: IntegerDescription, tensors: dict[str, Tensor]) -> IntegerNetwork:
    """Put the tensors together; a ValueError or KeyError says what does not fit."""
    height, width, channels = description.image_shape
    fan_ins = [height * width * channels, *(layer.num_outputs for layer in description.layers)]
    dtype = getattr(torch, description.dtype)
    layers = []
    for number, layer in enumerate(description.layers):
        if layer.num_inputs != fan_ins[number]:
            raise ValueError(f"layer {number} does not follow from the one before it")
        read = TensorReader(tensors, f"layers.{number}", dtype)
        weights = weights_of(layer.kind).from_tensors(read, layer.num_inputs, layer.num_outputs)
        layers.append(IntegerLayer(weights, read("offset", (layer.num_outputs,))))
    num_classes = len(description.classes)
    head = integer_head_of(description.head).from_tensors(
        TensorReader(tensors, "head"), fan_ins[-1], num_classes
    )
    if head.num_classes(fan_ins[-1]) != num_classes:
        raise ValueError(f"{head.num_classes(fan_ins[-1])} logits for {num_classes} classes")
    network = IntegerNetwork(
        description.fraction_bits,
        description.image_shape,
        Normalisation(description.mean, description.std),
        tuple(layers),
        head,
    )
    _check_ranges(network, description)
    return network


def _check_ranges(network: IntegerNetwork, description: IntegerDescription) -> None:
    for number, (span, layer) in enumerate(zip(network.ranges(), description.layers, strict=True)):
        if span.largest_number > torch.iinfo(network.dtype).max:
            raise ValueError(f"layer {number} can overflow {description.dtype}")
        said = (layer.smallest_output, layer.largest_output, layer.largest_difference)
        if (span.smallest_output, span.largest_output, span.largest_difference) != said:
            raise ValueError(f"layer {number} reaches {span}, which is not what is said of it")
    if network.largest_number > torch.iinfo(network.dtype).max:
        raise ValueError(f"a pixel or a weight can overflow {description.dtype}")
