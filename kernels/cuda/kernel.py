"""A kernel, what it is launched with, and what can launch it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

SOURCE_DIR = Path(__file__).parent.parent / "csrc" / "cuda"


@dataclass(frozen=True)
class Kernel:
    """One instantiation of a kernel."""

    source: str
    """Name of its file in csrc/cuda, without ``.cu``."""
    expression: str
    """What C++ calls it inside namespace supnorm: ``linf_distance<Tile<8, 8, 4>>``."""


@dataclass(frozen=True)
class Launch:
    """How many threads run it."""

    grid: tuple[int, int, int]
    threads: int = 128
    shared_bytes: int = 0


class Arguments(ctypes.Structure):
    """The one argument of a kernel: a C structure of pointers and numbers.

    Give a tensor for a pointer (None for a null one); it lives as long as this structure.
    """

    def __init__(self, **values: Any) -> None:
        self.owners = tuple(values.values())
        super().__init__(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    return value.data_ptr() if isinstance(value, Tensor) else value


POINTER, LONG, INT, FLOAT = ctypes.c_void_p, ctypes.c_longlong, ctypes.c_int, ctypes.c_float


def fields(*parts: tuple[Any, str]) -> list[tuple[str, Any]]:
    """Return ``_fields_`` of an `Arguments` from types and names of that type, in their order."""
    return [(name, kind) for kind, names in parts for name in names.split()]


class Device(Protocol):
    """What runs kernels: a GPU, or the host shim."""

    num_processors: int
    """Streaming multiprocessors."""

    def launch(self, kernel: Kernel, launch: Launch, arguments: Arguments) -> None:
        """Start a kernel on the stream that torch uses, without waiting for it."""


def blocks_of(count: int, size: int) -> int:
    """Return how many blocks of ``size`` hold ``count``."""
    return -(-count // size)


def source_texts(source: str, source_dir: Path = SOURCE_DIR) -> list[str]:
    """Return names and texts of what the compilation of a source depends on: it and all headers."""
    paths = [source_dir / f"{source}.cu", *sorted(source_dir.glob("*.h"))]
    return [text for path in paths for text in (path.name, path.read_text())]
