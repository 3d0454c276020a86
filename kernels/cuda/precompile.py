"""Compiles kernels before they are launched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from kernels.cuda import nvrtc
from kernels.cuda.catalogue import all_kernels
from kernels.cuda.kernel import Kernel

TRIED_ARCHITECTURE = 90
TRIED = ("linf_distance", "lp_distance_finish", "scatter")


def precompile(architecture: int | None) -> str:
    """Compile all kernels for an architecture; without one a few, to see that it works.

    Args:
        architecture: Such as 90 for sm_90.

    Returns:
        What has been done, in words.

    Raises:
        BuildError: The compilation failed, or there is no NVRTC and an architecture was given.
    """
    if architecture is None and not nvrtc.is_available():
        return "no NVRTC, so no CUDA kernels"
    kernels = all_kernels() if architecture else _tried()
    target = architecture or TRIED_ARCHITECTURE
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda kernel: nvrtc.compile_kernel(kernel, target), kernels))
    version = ".".join(map(str, nvrtc.version()))
    done = f"{len(kernels)} CUDA kernels compiled for sm_{target} by NVRTC {version}"
    return done if architecture else f"{done}; the rest when they are first launched"


def _tried() -> list[Kernel]:
    """A kernel of each kind: with tiles, without, with votes."""
    found: dict[str, Kernel] = {}
    for kernel in all_kernels(even=()):
        for name in TRIED:
            if kernel.expression.startswith(name):
                found.setdefault(name, kernel)
    return list(found.values())
