"""Makes torch use the kernels for CUDA tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from kernels import schema
from kernels.cuda import gradients, operators, scatter
from kernels.cuda.driver import gpu

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lp_distance": operators.lp_distance,
    "lp_distance_backward": gradients.lp_distance_backward,
    "linf_distance": operators.linf_distance,
    "linf_distance_argmax": operators.linf_distance_argmax,
    "linf_distance_backward": scatter.linf_distance_backward,
    "linf_distance_bounds": operators.linf_distance_bounds,
}


@functools.cache
def register_cuda_kernels() -> Any:
    """Serve float32 tensors on GPUs by the kernels, all else by the reference.

    A kernel is compiled when it is first launched.

    Returns:
        The library; the kernels are registered as long as it lives.
    """
    library: Any = torch.library.Library("supnorm", "IMPL")  # type: ignore[no-untyped-call]
    for name, function in _FUNCTIONS.items():
        library.impl(name, _implementation(function, schema.REFERENCE_KERNELS[name]), "CUDA")
    return library


def _implementation(
    function: Callable[..., Any], reference: Callable[..., Any]
) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        first = arguments[0]
        if first.dtype != torch.float32:
            return reference(*arguments)
        return function(gpu(first.device.index), *arguments)

    return run
