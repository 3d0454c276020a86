"""Compiles the CPU kernels into a shared library, once for each state of the sources.

The library's name carries a hash of everything that goes into it: the sources, the flags, torch's
version, the architecture and the compiler's version. A stale library is therefore never loaded, and
a copy of this folder, wherever it lies, uses the libraries that were copied with it. A library is
written beside its final name and renamed, so processes that build at the same time cannot disturb
each other.

Sources are found by their folder in ``csrc/cpu``:

* ``binding`` sees torch and registers the operators;
* ``host`` is compiled once, for any processor of this architecture;
* ``isa`` is compiled once an instruction set, and the best one is chosen at run time;
* ``isa/split`` also for ``avx512vl``: it gains from vectors of 256 bits where a processor splits
  those of 512.
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
    "-I.",
)
# The oldest torch whose stable interface the binding uses: 2.11.
TORCH_FLAGS = ("-DTORCH_TARGET_VERSION=0x020b000000000000",)
LINK_FLAGS = ("-ltorch_cpu", "-ltorch", "-lc10")

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


def default_toolchain() -> Toolchain:
    """Return the compiler named by ``CXX``, else the first one found.

    Raises:
        BuildError: There is none.
    """
    names = (os.environ.get("CXX") or "", "c++", "g++", "clang++")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        raise BuildError("no C++ compiler found; install g++ 11 or later, or set CXX")
    return Toolchain(found, _extra_flags())


def library() -> Path:
    """Return the library to load: the one that fits, compiled now where there is none.

    Where there is no compiler, whatever compiler made it will do.

    Raises:
        BuildError: There is none, and it cannot be compiled.
    """
    try:
        toolchain = default_toolchain()
    except BuildError:
        pattern = f"supnorm_kernels-{_sources_digest(_extra_flags())}-*.so"
        found = [path for folder in _folders() for path in sorted(folder.glob(pattern))]
        if not found:
            raise
        return found[0]
    return build(toolchain)


def library_path(toolchain: Toolchain) -> Path:
    """Return where the library for the present sources, compiler and torch is, or will be."""
    compiled = f"{_sources_digest(toolchain.extra_flags)}-{_version_digest(toolchain.compiler)}"
    return kept_file(f"supnorm_kernels-{compiled}.so")


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
        objects, commands = [], []
        includes = (f"-I{_torch_dir() / 'include'}",)
        for name, arguments in _compilations(toolchain.extra_flags).items():
            objects.append(str(Path(working_dir) / f"{name}.o"))
            torch_flags = includes if TORCH_FLAGS[0] in arguments else ()
            commands.append((toolchain.compiler, *torch_flags, *arguments, "-o", objects[-1]))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = Path(working_dir) / target.name
        libraries = (*toolchain.extra_flags, f"-L{_torch_dir() / 'lib'}", *LINK_FLAGS)
        _run((toolchain.compiler, "-shared", "-o", str(linked), *objects, *libraries))
        linked.replace(target)


def _remove_old_libraries(build_dir: Path) -> None:
    """Keep the newest; a process that has loaded an older one keeps it all the same."""
    libraries = sorted(
        build_dir.glob("supnorm_kernels-*.so"), key=lambda path: path.stat().st_mtime
    )
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


def _compilations(extra_flags: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return each object's name and the arguments that compile it in the sources' folder."""
    base = (*FLAGS, *extra_flags)
    compilations = {}
    for isa, isa_flags in instruction_sets().items():
        names = (f"-DSUPNORM_ISA={isa}", f'-DSUPNORM_ISA_NAME="{isa}"', "-fno-exceptions")
        for source in _sources("isa/split" if isa == "avx512vl" else "isa/**"):
            arguments = (*base, *isa_flags, *names, "-c", source)
            compilations[f"{Path(source).stem}-{isa}"] = arguments
    for source in _sources("binding"):
        compilations[Path(source).stem] = (*base, *TORCH_FLAGS, "-c", source)
    for source in _sources("host"):
        compilations[Path(source).stem] = (*base, "-c", source)
    return compilations


def _sources(folder: str) -> list[str]:
    paths = SOURCE_DIR.glob(f"{folder}/*.cpp")
    return sorted(path.relative_to(SOURCE_DIR).as_posix() for path in paths)


def instruction_sets() -> dict[str, tuple[str, ...]]:
    """Return what the kernels are compiled for on this machine, with the compiler's flags."""
    if platform.machine() in ("x86_64", "AMD64"):
        return INSTRUCTION_SETS
    return {"portable": INSTRUCTION_SETS["portable"]}


def _run(command: tuple[str, ...]) -> None:
    result = subprocess.run(command, cwd=SOURCE_DIR, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)}\n{result.stderr.strip()}")


@functools.cache
def _sources_digest(extra_flags: tuple[str, ...]) -> str:
    """Return a hash of all but the compiler; nothing in it says where this folder lies."""
    parts = [repr(_compilations(extra_flags)), repr(LINK_FLAGS)]
    parts += [torch.__version__, platform.machine()]
    for path in sorted(path for path in SOURCE_DIR.rglob("*") if path.suffix in {".cpp", ".h"}):
        parts += [path.relative_to(SOURCE_DIR).as_posix(), path.read_text()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def _version_digest(compiler: str) -> str:
    """Return a hash of the compiler's name and version, by whatever path or link it is called."""
    command = (compiler, "--version")
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    version = text.partition("\n")[0].partition(" ")[2]  # GCC begins with the name it is called by
    return hashlib.sha256(version.encode()).hexdigest()[:8]


def _extra_flags() -> tuple[str, ...]:
    return tuple(os.environ.get("SUPNORM_CXXFLAGS", "").split())


def _torch_dir() -> Path:
    return Path(torch.__file__).parent


def kept_file(name: str) -> Path:
    """Return where a compiled file is, beside the sources or in the cache, or is to be written."""
    paths = [folder / name for folder in _folders()]
    return next((path for path in paths if path.is_file()), build_dir() / name)


def build_dir() -> Path:
    """Return where compiled kernels are written: beside the sources, or in the user's cache.

    The latter where the former cannot be written to.
    """
    beside, cache = _folders()
    return beside if os.access(beside if beside.exists() else beside.parent, os.W_OK) else cache


def _folders() -> tuple[Path, Path]:
    cache = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(__file__).parent / "_build", Path(cache) / "supnorm"
