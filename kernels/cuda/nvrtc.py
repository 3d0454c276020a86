"""Compiles kernels at run time with NVRTC, which every CUDA wheel of torch brings along.

A compiled kernel is kept in a file whose name is a hash of sources, instantiation, architecture and
compiler, so a stale one is never loaded.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from kernels import compiler
from kernels.cuda.kernel import SOURCE_DIR, Kernel, source_texts

FLAGS = ("-std=c++17", f"-I{SOURCE_DIR}")


@dataclass(frozen=True)
class Binary:
    """A compiled kernel."""

    name: str
    """Its mangled name."""
    code: bytes
    """A cubin, or PTX where NVRTC does not know the architecture."""


@functools.cache
def compile_kernel(kernel: Kernel, architecture: int) -> Binary:
    """Return the kernel compiled for one architecture, from its file where it has been done before.

    Args:
        kernel: The instantiation.
        architecture: Compute capability, such as 90 for sm_90.

    Raises:
        BuildError: There is no NVRTC, or the compilation failed.
    """
    nvrtc = _load()
    version = _version(nvrtc)
    parts = [kernel.source, kernel.expression, str(architecture), str(version), FLAGS[0]]
    parts += source_texts(kernel.source)
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    path = compiler.kept_file(f"{kernel.source}-sm{architecture}-{digest}.bin")
    if not path.exists():
        _write(path, _compile(nvrtc, kernel, architecture))
    name, code = path.read_bytes().split(b"\n", 1)
    return Binary(name.decode(), code)


def is_available() -> bool:
    """Return whether NVRTC can be loaded here."""
    try:
        _load()
    except compiler.BuildError:
        return False
    return True


def version() -> tuple[int, int]:
    """Return NVRTC's version.

    Raises:
        BuildError: There is none.
    """
    return _version(_load())


def _write(path: Path, binary: Binary) -> None:
    """Beside its final name, then renamed: processes that compile at once do not disturb it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(f".{os.getpid()}")
    staged.write_bytes(binary.name.encode() + b"\n" + binary.code)
    staged.replace(path)


def _compile(nvrtc: ctypes.CDLL, kernel: Kernel, architecture: int) -> Binary:
    program = ctypes.c_void_p()
    text = f'#include "{kernel.source}.cu"\nusing namespace supnorm;\n'.encode()
    _check(
        nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"", 0, None, None), program
    )
    try:
        expression = kernel.expression.encode()
        _check(nvrtc, nvrtc.nvrtcAddNameExpression(program, expression), program)
        is_known = architecture in _architectures(nvrtc)
        target = f"sm_{architecture}" if is_known else f"compute_{max(_architectures(nvrtc))}"
        flags = [flag.encode() for flag in (*FLAGS, f"--gpu-architecture={target}")]
        options = (ctypes.c_char_p * len(flags))(*flags)
        _check(nvrtc, nvrtc.nvrtcCompileProgram(program, len(flags), options), program)
        lowered = ctypes.c_char_p()
        _check(
            nvrtc,
            nvrtc.nvrtcGetLoweredName(program, expression, ctypes.byref(lowered)),
            program,
        )
        assert lowered.value is not None
        return Binary(lowered.value.decode(), _code(nvrtc, program, "CUBIN" if is_known else "PTX"))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _code(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, kind: str) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)), program)
    code = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{kind}")(program, code), program)
    return code.raw


def _check(nvrtc: ctypes.CDLL, status: int, program: ctypes.c_void_p) -> None:
    if status == 0:
        return
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(max(size.value, 1))
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    reason = nvrtc.nvrtcGetErrorString(status).decode()
    raise compiler.BuildError(f"NVRTC: {reason}\n{log.value.decode()}")


@functools.cache
def _load() -> ctypes.CDLL:
    wheels = [
        path
        for entry in sys.path
        for path in sorted(Path(entry or ".").glob("nvidia/*/lib/libnvrtc.so.*"), reverse=True)
    ]
    for path in wheels:
        # NVRTC looks for its builtins by name only; loaded before, they are found.
        for builtins in path.parent.glob("libnvrtc-builtins.so.*"):
            ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
        return ctypes.CDLL(str(path))
    for name in ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise compiler.BuildError("no NVRTC found; it comes with torch's CUDA wheels")


def _version(nvrtc: ctypes.CDLL) -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return major.value, minor.value


def _architectures(nvrtc: ctypes.CDLL) -> tuple[int, ...]:
    count = ctypes.c_int()
    nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    known = (ctypes.c_int * count.value)()
    nvrtc.nvrtcGetSupportedArchs(known)
    return tuple(known)
