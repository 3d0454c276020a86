"""Reads the pickles of the CIFAR batches without running what a pickle might ask for."""

import pickle
from io import BytesIO
from typing import Any, ClassVar

import numpy as np


class _Refused(pickle.UnpicklingError):
    """A pickle asks for something that no batch of images needs."""


def load_plain_pickle(content: bytes) -> Any:
    """Load a pickle of dictionaries, lists, text, numbers and numpy arrays, and nothing else.

    Text of Python 2 is read as latin-1, which keeps the bytes of its arrays.

    Raises:
        pickle.UnpicklingError: the content asks for any other class or function, which is not
            looked up, or is no pickle.
        Exception: a damaged pickle can fail in almost any way.
    """
    return _PlainUnpickler(BytesIO(content), encoding="latin1").load()


def _rebuild_array(kind: type, shape: tuple[int, ...], code: str | bytes) -> Any:
    if kind is not np.ndarray:
        raise _Refused(f"it asks for an array of class {kind!r}")
    return np.ndarray(shape, "u1")  # its state, which follows, sets shape, type and content


def _latin1_bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise _Refused(f"it asks for the codec {encoding!r}")
    return text.encode("latin1")


class _PlainUnpickler(pickle.Unpickler):
    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): _rebuild_array,
        ("numpy._core.multiarray", "_reconstruct"): _rebuild_array,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise _Refused(f"it asks for {module}.{name}, which no batch of images needs")
        return self._ALLOWED[module, name]
