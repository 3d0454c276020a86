"""Which implementation computes the operators on each device.

On import the compiled CPU kernels are loaded, and built first where need be. The environment
variable ``SUPNORM_KERNELS`` chooses others than the best: one of `COMPILED` or ``reference``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from kernels import compiler
from kernels.cuda import nvrtc
from kernels.cuda.register import register_cuda_kernels

CHOICE_VARIABLE = "SUPNORM_KERNELS"
COMPILED = ("avx512vl", "avx512", "avx2", "portable")
"""``avx512vl`` is AVX-512 with the maxima on 256 bits, for processors that split 512 (Zen 4)."""


@dataclass(frozen=True)
class Backend:
    """What serves each device."""

    cpu: str
    """One of `COMPILED`, or ``reference`` (plain PyTorch)."""
    cuda: str
    """``nvrtc`` (float32 kernels, compiled at run time) or ``reference`` (plain PyTorch)."""


def backend() -> Backend:
    """Return which implementation serves each device on this machine."""
    return Backend(cpu=_cpu_kernels(), cuda="nvrtc" if load_cuda_kernels() else "reference")


@contextmanager
def cpu_kernels(name: str) -> Iterator[None]:
    """Compute on the CPU with the given compiled kernels, for tests and benchmarks.

    It holds for the whole process, all threads.

    Args:
        name: One of `COMPILED`.

    Raises:
        ValueError: This machine cannot run them, or the kernels are not compiled.
    """
    before = _cpu_kernels()
    _choose(name)
    try:
        yield
    finally:
        _choose(before)


@contextmanager
def every_input() -> Iterator[None]:
    """Look at every input, also where it cannot matter, for tests and benchmarks of skipping."""
    library = load_cpu_kernels()
    if library is None:
        yield
        return
    library.supnorm_use_skipping(0)
    try:
        yield
    finally:
        library.supnorm_use_skipping(1)


def available_cpu_kernels() -> tuple[str, ...]:
    """Return the names that `cpu_kernels` accepts here, the fastest first."""
    library = load_cpu_kernels()
    if library is None:
        return ()
    before = _cpu_kernels()
    names = tuple(name for name in COMPILED if library.supnorm_use_kernels(name.encode()))
    _choose(before)
    return names


def _cpu_kernels() -> str:
    library = load_cpu_kernels()
    if library is None:
        return "reference"
    name: bytes = library.supnorm_kernels_in_use()
    return name.decode()


def _choose(name: str) -> None:
    library = load_cpu_kernels()
    if library is None or not library.supnorm_use_kernels(name.encode()):
        names = ", ".join((*available_cpu_kernels(), "reference"))
        raise ValueError(
            f"CPU kernels {name!r} are not available on this machine; choose one of {names}."
        )


@functools.cache
def load_cpu_kernels() -> ctypes.CDLL | None:
    """Load the compiled kernels, once; without them the reference serves, with one loud line.

    Returns:
        The shared library, or None where there is none.
    """
    choice = os.environ.get(CHOICE_VARIABLE, "")
    if choice == "reference":
        return None
    try:
        path = compiler.library()
        torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
        library = ctypes.CDLL(str(path))
    except (compiler.BuildError, OSError) as error:
        _say(
            f"no compiled CPU kernels: plain PyTorch serves, some 50 times slower. Reason: {error}"
        )
        return None
    library.supnorm_kernels_in_use.restype = ctypes.c_char_p
    library.supnorm_run_arithmetic.restype = ctypes.c_int64
    library.supnorm_run_arithmetic.argtypes = (ctypes.c_int, ctypes.c_int64)
    if choice and not library.supnorm_use_kernels(choice.encode()):
        _say(f"{CHOICE_VARIABLE}={choice} is not known or not for this processor; ignored")
    return library


@functools.cache
def load_cuda_kernels() -> bool:
    """Make torch use the kernels for GPUs, once; no GPU is needed or touched.

    Returns:
        Whether it does; if not, the reference serves.
    """
    if torch.version.cuda is None or os.environ.get(CHOICE_VARIABLE) == "reference":
        return False
    if not nvrtc.is_available():
        _say("no NVRTC, which torch's CUDA wheels bring along: plain PyTorch serves GPUs")
        return False
    register_cuda_kernels()
    return True


def _say(message: str) -> None:
    print(f"kernels: {message}", file=sys.stderr, flush=True)
