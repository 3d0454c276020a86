"""`supnorm export`: a certified network as one file, beside the page of NumPy that runs it."""

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from kernels import SparseRows
from pipeline.errors import UserError
from stages.models.linf import numpy_network
from stages.models.linf.integer_file import load_integer_network
from stages.models.linf.layers.layer import Weights


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of network.int.json: a certify stage's.")
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The .npz file to write.")
    ] = Path("network.npz"),
) -> None:
    """Write a certified network as one file that NumPy alone can run.

    The file is a plain archive of arrays, without pickle, so it is safe to open. Beside it lies
    numpy_network.py, a page of NumPy that runs it and certifies pictures without torch.
    """
    if output.suffix != ".npz":
        raise UserError(f"{output}: the file must end in .npz, NumPy's archive")
    loaded = load_integer_network(folder)
    network = loaded.network
    if network.head.kind != "distance":
        raise UserError(
            f"{folder} holds a network with a head of kind {network.head.kind}, which computes in "
            "float64; only networks of distance layers alone are exported"
        )
    height, width, channels = network.image_shape
    arrays: dict[str, np.ndarray] = {
        "fraction_bits": np.array(network.fraction_bits),
        "image_shape": np.array([channels, height, width]),
        "classes": np.array(loaded.classes),
        "num_layers": np.array(len(network.layers)),
    }
    for number, layer in enumerate(network.layers):
        parts = {**_sparse(layer.weights)._asdict(), "offset": layer.offset}
        arrays |= {f"layers.{number}.{name}": part.numpy() for name, part in parts.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(output, **arrays)  # type: ignore[arg-type]
    reader = output.with_name("numpy_network.py")
    shutil.copyfile(Path(numpy_network.__file__), reader)
    num_edges = sum(len(arrays[f"layers.{n}.values"]) for n in range(len(network.layers)))
    print(f"{output}: {num_edges:,} edges, {output.stat().st_size:,} bytes; {reader} runs it")


def _sparse(weights: Weights) -> SparseRows:
    """The edges of any kind of layer, as compressed rows."""
    rows, floors = weights.reference_rows()
    edges = [edge for row in rows for edge in row]
    starts = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    return SparseRows(
        torch.tensor([weight for _, weight in edges]),
        torch.tensor([column for column, _ in edges]),
        starts,
        torch.tensor(floors),
    )
