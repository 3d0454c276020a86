"""Compiles the CPU kernels into a shared library, once for each state of the sources.

The library's name carries a hash of everything that goes into it (sources, compiler, flags, torch
version), so a stale one is never loaded. It is written beside its final name and renamed, so
processes that build at the same time cannot disturb each other.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

SOURCE_DIR = Path(__file__).parent / "csrc" / "cpu"

# Compiled once, for any processor of this architecture.
COMMON_SOURCES = (
    "bind",
    "bind_sparse",
    "operands",
    "run_backward",
    "run_forward",
    "run_integers",
    "dispatch",
    "plain",
    "power_plan",
    "similar_rows",
)
# Compiled once an instruction set; the best one is chosen at run time.
KERNEL_SOURCES = (
    "dense_backward",
    "isa",
    "integer_linf",
    "limits",
    "linf_distance",
    "linf_distance_bounds",
    "lp_distance",
    "lp_distance_backward",
    "sparse_linf_distance",
    "sparse_stack",
)
# Those of them that gain from vectors of 256 bits where a processor splits 512.
SPLIT_SOURCES = ("limits", "linf_distance")
_AVX512 = ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma")
INSTRUCTION_SETS: dict[str, tuple[str, ...]] = {
    "portable": (),
    "avx2": ("-mavx2", "-mfma"),
    "avx512": _AVX512,
    "avx512vl": (*_AVX512, "-DSUPNORM_AVX512VL"),
}
# No -ffast-math: NaN has to pass through.
FLAGS = (
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-math-errno",
    "-fno-trapping-math",
)
# The oldest torch whose stable interface bind.cpp uses: 2.11.
TORCH_FLAGS = ("-DTORCH_TARGET_VERSION=0x020b000000000000",)


NUM_KEPT_LIBRARIES = 8
_compiled_here: set[Path] = set()


class BuildError(Exception):
    """The kernels cannot be compiled here; the message says why."""


@dataclass(frozen=True)
class Toolchain:
    """A compiler and the extra flags to give it."""

    compiler: str
    """Path of a C++20 compiler: GCC 11, Clang 14, or later."""
    extra_flags: tuple[str, ...] = ()
    """For every compilation and for linking, such as ``-fsanitize=address``."""


@functools.cache
def default_toolchain() -> Toolchain:
    """Return the compiler named by ``CXX``, else the first one found.

    Raises:
        BuildError: There is none.
    """
    names = (os.environ.get("CXX") or "", "c++", "g++", "clang++")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise BuildError("no C++ compiler found; install g++ 11 or later, or set CXX")
    return Toolchain(found, tuple(os.environ.get("SUPNORM_CXXFLAGS", "").split()))


def library_path(toolchain: Toolchain) -> Path:
    """Return where the library for the present sources, compiler and torch is, or will be."""
    return build_dir() / f"supnorm_kernels-{_digest(toolchain)}.so"


def build(toolchain: Toolchain) -> Path:
    """Compile and link the kernels, unless that has been done, and say so on stderr.

    Args:
        toolchain: What to compile with.

    Returns:
        Path of the shared library.

    Raises:
        BuildError: The compiler failed; the message has its output.
    """
    target = library_path(toolchain)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(target.parent):
        if not target.exists():
            start = time.monotonic()
            _say(f"compiling for {', '.join(instruction_sets())}, once ...")
            _build(toolchain, target)
            _compiled_here.add(target)
            _say(f"compiled in {time.monotonic() - start:.1f} s: {target}")
            _remove_old_libraries(target.parent)
    return target


def was_compiled_here(path: Path) -> bool:
    """Return whether this process compiled the library; else it was found."""
    return path in _compiled_here


def _build(toolchain: Toolchain, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as working_dir:
        commands = _compile_commands(toolchain, Path(working_dir))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands.values()))
        linked = Path(working_dir) / target.name
        objects = [str(path) for path in commands]
        _run((toolchain.compiler, "-shared", "-o", str(linked), *objects, *_link_flags(toolchain)))
        linked.replace(target)


def _remove_old_libraries(build_dir: Path) -> None:
    """Keep the newest; a process that has loaded an older one keeps it all the same."""
    libraries = sorted(build_dir.glob("*.so"), key=lambda path: path.stat().st_mtime)
    for path in libraries[:-NUM_KEPT_LIBRARIES]:
        path.unlink(missing_ok=True)


@contextmanager
def _one_at_a_time(build_dir: Path) -> Iterator[None]:
    """Let other processes wait instead of compiling the same; nothing breaks without it."""
    with (build_dir / ".lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(f"kernels: {message}", file=sys.stderr, flush=True)


def _compile_commands(toolchain: Toolchain, working_dir: Path) -> dict[Path, tuple[str, ...]]:
    """Every object file and the command that makes it; the slowest first."""
    base = (toolchain.compiler, *FLAGS, *toolchain.extra_flags)
    commands = {}
    for name in COMMON_SOURCES:
        flags = (*TORCH_FLAGS, f"-I{_torch_dir() / 'include'}") if name.startswith("bind") else ()
        path = working_dir / f"{name}.o"
        commands[path] = (*base, *flags, "-c", str(SOURCE_DIR / f"{name}.cpp"), "-o", str(path))
    for isa, isa_flags in instruction_sets().items():
        names = (f"-DSUPNORM_ISA={isa}", f'-DSUPNORM_ISA_NAME="{isa}"', "-fno-exceptions")
        for name in SPLIT_SOURCES if isa == "avx512vl" else KERNEL_SOURCES:
            path = working_dir / f"{name}-{isa}.o"
            source = str(SOURCE_DIR / f"{name}.cpp")
            commands[path] = (*base, *isa_flags, *names, "-c", source, "-o", str(path))
    return commands


def instruction_sets() -> dict[str, tuple[str, ...]]:
    """Return what the kernels are compiled for on this machine, with the compiler's flags."""
    if platform.machine() in ("x86_64", "AMD64"):
        return INSTRUCTION_SETS
    return {"portable": INSTRUCTION_SETS["portable"]}


def _link_flags(toolchain: Toolchain) -> tuple[str, ...]:
    lib_dir = _torch_dir() / "lib"
    return (*toolchain.extra_flags, f"-L{lib_dir}", "-ltorch_cpu", "-ltorch", "-lc10")


def _run(command: tuple[str, ...]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{result.stderr.strip()}")


@functools.cache
def _digest(toolchain: Toolchain) -> str:
    version = subprocess.run(
        (toolchain.compiler, "--version"), capture_output=True, text=True, check=False
    ).stdout
    parts = [repr(_compile_commands(toolchain, Path())), torch.__version__, version]
    for path in sorted(SOURCE_DIR.iterdir()):
        parts += [path.name, path.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]


def _torch_dir() -> Path:
    return Path(torch.__file__).parent


def build_dir() -> Path:
    """Return where compiled kernels are kept: beside the sources, or in the user's cache.

    The latter where the former cannot be written to.
    """
    beside = Path(__file__).parent / "_build"
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "supnorm"
