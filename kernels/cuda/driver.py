"""Runs kernels on a GPU through the CUDA driver, on the streams and in the memory of torch."""

from __future__ import annotations

import ctypes
import functools

import torch

from kernels.cuda.kernel import Arguments, Kernel, Launch
from kernels.cuda.nvrtc import compile_kernel

_MAX_DYNAMIC_SHARED_BYTES = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_DEFAULT_SHARED_BYTES = 48 * 1024


class Gpu:
    """One GPU of this machine."""

    def __init__(self, index: int) -> None:
        properties = torch.cuda.get_device_properties(index)
        self.num_processors: int = properties.multi_processor_count
        self._index = index
        self._architecture = 10 * properties.major + properties.minor

    def launch(self, kernel: Kernel, launch: Launch, arguments: Arguments) -> None:
        """Start a kernel on torch's current stream, without waiting for it.

        The first launch of a kernel compiles and loads it; that may not happen while a CUDA graph
        is captured, so run what is to be captured once before.

        Raises:
            RuntimeError: The driver refused.
            BuildError: The kernel cannot be compiled.
        """
        with torch.cuda.device(self._index):
            _make_context_current(self._index)
            function = _load(kernel, self._index, self._architecture, launch.shared_bytes)
            stream = torch.cuda.current_stream(self._index).cuda_stream
            pointers = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
            _check(
                _driver().cuLaunchKernel(
                    function,
                    *launch.grid,
                    launch.threads,
                    1,
                    1,
                    launch.shared_bytes,
                    ctypes.c_void_p(stream),
                    pointers,
                    None,
                ),
                kernel.expression,
            )


@functools.cache
def gpu(index: int) -> Gpu:
    """Return the GPU of this index."""
    return Gpu(index)


@functools.cache
def _load(kernel: Kernel, index: int, architecture: int, shared_bytes: int) -> ctypes.c_void_p:
    binary = compile_kernel(kernel, architecture)
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    driver = _driver()
    _check(driver.cuModuleLoadData(ctypes.byref(module), binary.code), kernel.expression)
    _check(
        driver.cuModuleGetFunction(ctypes.byref(function), module, binary.name.encode()),
        kernel.expression,
    )
    if shared_bytes > _DEFAULT_SHARED_BYTES:
        _check(
            driver.cuFuncSetAttribute(function, _MAX_DYNAMIC_SHARED_BYTES, shared_bytes),
            kernel.expression,
        )
    return function


def _make_context_current(index: int) -> None:
    """In a thread that has used no GPU yet torch leaves that to its own first call."""
    driver, context, device = _driver(), ctypes.c_void_p(), ctypes.c_int()
    driver.cuCtxGetCurrent(ctypes.byref(context))
    if context.value is None:
        _check(driver.cuDeviceGet(ctypes.byref(device), index), "the device")
        _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "its context")
        _check(driver.cuCtxSetCurrent(context), "its context")


@functools.cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(status: int, what: str) -> None:
    if status == 0:
        return
    message = ctypes.c_char_p()
    _driver().cuGetErrorString(status, ctypes.byref(message))
    reason = message.value.decode() if message.value else f"error {status}"
    raise RuntimeError(f"kernels: {what}: the CUDA driver says: {reason}")
