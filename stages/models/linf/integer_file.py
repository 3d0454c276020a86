"""The file pair that ships an integer network: what was certified, to the last bit.

`network.int.safetensors` holds whole numbers (int16 or int32), and the float32 head of a hybrid;
`network.int.json` what they mean, the images they expect, and what every layer can reach.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from kernels import SparseRows
from pipeline.errors import StageError
from pipeline.spec.settings import Settings
from stages.models.images import Normalisation
from stages.models.linf.integer_network import (
    MOST_FRACTION_BITS,
    IntegerLayer,
    IntegerNetwork,
)
from stages.models.network_file import LoadedNetwork, read_weights

INTEGER_WEIGHTS_NAME = "network.int.safetensors"
INTEGER_DESCRIPTION_NAME = "network.int.json"


class LayerDescription(Settings):
    """One layer: y_o = max_i |x_i - weight_oi| - offset_o, over all inputs i or those kept."""

    kind: Literal["dense", "sparse"]
    """`dense`: tensors `layers.<n>.weight` (O, I) and `layers.<n>.offset` (O,). `sparse`: instead
    of the weight compressed rows, `values` and `columns` (E,) and `starts` (O + 1,), and a `floor`
    (O,) that no distance is below."""
    num_inputs: int = Field(ge=1)
    num_outputs: int = Field(ge=1)
    smallest_output: int
    """Over all images there are, by interval arithmetic; likewise the next two."""
    largest_output: int
    largest_difference: int
    """Largest |x_i - weight_oi|: no number on the way to an output is larger."""


class IntegerDescription(Settings):
    """Contents of network.int.json."""

    format_version: Literal[1] = 1
    fraction_bits: int = Field(ge=0, le=MOST_FRACTION_BITS)
    """F: pixel value v enters as 2^F v, and one unit is 1 / (255 * 2^F) of a pixel in [0, 1]."""
    dtype: Literal["int16", "int32"]
    layers: tuple[LayerDescription, ...] = Field(min_length=1)
    head: Literal["linear-tanh-linear"] | None
    """None: the logits are minus the last layer's outputs. Else tensors `head.first.*` and
    `head.second.*`, float32, applied to the outputs divided by 255 * 2^F * std."""
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
    description = IntegerDescription(
        fraction_bits=network.fraction_bits,
        dtype="int16" if network.dtype == torch.int16 else "int32",
        layers=tuple(
            LayerDescription(
                kind="sparse" if isinstance(layer.rows, SparseRows) else "dense",
                num_inputs=fan_in,
                num_outputs=len(layer.offset),
                smallest_output=span.smallest_output,
                largest_output=span.largest_output,
                largest_difference=span.largest_difference,
            )
            for layer, span, fan_in in zip(
                network.layers, network.ranges(), network.fan_ins, strict=True
            )
        ),
        head="linear-tanh-linear" if network.head else None,
        dataset=source.dataset,
        image_shape=network.image_shape,
        classes=source.classes,
        mean=network.normalisation.mean,
        std=network.normalisation.std,
        source_sha256=source.weights_sha256,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
    _write_whole(folder / INTEGER_WEIGHTS_NAME, weights)
    text = description.model_dump_json(indent=2) + "\n"
    _write_whole(folder / INTEGER_DESCRIPTION_NAME, text.encode())


def load_integer_network(folder: Path) -> LoadedIntegerNetwork:
    """Read what `save_integer_network` wrote, and prove again that nothing can overflow.

    Returns:
        The network on the CPU.

    Raises:
        StageError: a file is missing or damaged, or the two contradict each other.
    """
    path = folder / INTEGER_DESCRIPTION_NAME
    again = "run the certify stage again with --force"
    try:
        description = IntegerDescription.model_validate_json(path.read_bytes())
    except OSError as error:
        raise StageError(
            f"no exact network here: {path} cannot be read ({error.strerror}); run a certify stage "
            "with method: exact first"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise StageError(f"{path} is damaged at {where}: {first['msg']}; {again}") from None
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
    tensors = {}
    for number, layer in enumerate(network.layers):
        rows = layer.rows
        parts = rows._asdict() if isinstance(rows, SparseRows) else {"weight": rows}
        for name, part in (parts | {"offset": layer.offset}).items():
            tensors[f"layers.{number}.{name}"] = part.contiguous()
    for name, part in zip(("first", "second"), network.head or (), strict=False):
        tensors[f"head.{name}.weight"] = part.weight.contiguous()
        tensors[f"head.{name}.bias"] = part.bias.contiguous()
    return tensors


def _network(description: IntegerDescription, tensors: dict[str, Tensor]) -> IntegerNetwork:
    """Put the tensors together; a ValueError or KeyError says what does not fit."""
    height, width, channels = description.image_shape
    fan_ins = [height * width * channels, *(layer.num_outputs for layer in description.layers)]
    layers = []
    for number, layer in enumerate(description.layers):
        if layer.num_inputs != fan_ins[number]:
            raise ValueError(f"layer {number} does not follow from the one before it")
        layers.append(_layer(layer, f"layers.{number}", tensors, getattr(torch, description.dtype)))
    network = IntegerNetwork(
        description.fraction_bits,
        description.image_shape,
        Normalisation(description.mean, description.std),
        tuple(layers),
        _head(description, tensors, fan_ins[-1]),
    )
    _check_ranges(network, description)
    if network.head is None and fan_ins[-1] != len(description.classes):
        raise ValueError(f"{fan_ins[-1]} logits for {len(description.classes)} classes")
    return network


def _layer(
    layer: LayerDescription, name: str, tensors: dict[str, Tensor], dtype: torch.dtype
) -> IntegerLayer:
    outputs = (layer.num_outputs,)
    offset = _checked(tensors, f"{name}.offset", outputs, dtype)
    if layer.kind == "dense":
        shape = (layer.num_outputs, layer.num_inputs)
        return IntegerLayer(_checked(tensors, f"{name}.weight", shape, dtype), offset)
    edges = tuple(tensors[f"{name}.columns"].shape)
    rows = SparseRows(
        _checked(tensors, f"{name}.values", edges, dtype),
        _checked(tensors, f"{name}.columns", edges, torch.int16),
        _checked(tensors, f"{name}.starts", (layer.num_outputs + 1,), torch.int32),
        _checked(tensors, f"{name}.floor", outputs, dtype),
    )
    steps, ends = rows.starts.diff(), rows.starts[[0, -1]].tolist()
    is_in_reach = ((rows.columns >= 0) & (rows.columns < layer.num_inputs)).all()
    if ends != [0, *edges] or (steps < 0).any() or not is_in_reach or (rows.floor < 0).any():
        raise ValueError(f"{name} has edges that lead nowhere")
    return IntegerLayer(rows, offset)


def _check_ranges(network: IntegerNetwork, description: IntegerDescription) -> None:
    for number, (span, layer) in enumerate(zip(network.ranges(), description.layers, strict=True)):
        if span.largest_number > torch.iinfo(network.dtype).max:
            raise ValueError(f"layer {number} can overflow {description.dtype}")
        said = (layer.smallest_output, layer.largest_output, layer.largest_difference)
        if (span.smallest_output, span.largest_output, span.largest_difference) != said:
            raise ValueError(f"layer {number} reaches {span}, which is not what is said of it")


def _head(
    description: IntegerDescription, tensors: dict[str, Tensor], num_features: int
) -> tuple[nn.Linear, nn.Linear] | None:
    if description.head is None:
        return None
    num_hidden, num_classes = len(tensors["head.first.bias"]), len(description.classes)
    return (
        _linear(tensors, "head.first", num_features, num_hidden),
        _linear(tensors, "head.second", num_hidden, num_classes),
    )


def _linear(tensors: dict[str, Tensor], name: str, fan_in: int, fan_out: int) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    layer.weight = nn.Parameter(
        _checked(tensors, f"{name}.weight", (fan_out, fan_in), torch.float32)
    )
    layer.bias = nn.Parameter(_checked(tensors, f"{name}.bias", (fan_out,), torch.float32))
    return layer.requires_grad_(False)


def _checked(
    tensors: dict[str, Tensor], name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    tensor = tensors[name]
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(
            f"{name} is {tensor.dtype} {tuple(tensor.shape)}, expected {dtype} {shape}"
        )
    if dtype.is_floating_point and not tensor.isfinite().all():
        raise ValueError(f"{name} holds numbers that are NaN or infinite")
    return tensor


def _write_whole(path: Path, content: bytes) -> None:
    staged = path.with_name(f".{path.name}.tmp")
    staged.write_bytes(content)
    staged.replace(path)
