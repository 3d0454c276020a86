"""Compile the kernels: ``python -m kernels.build [--cuda 90] [--sanitize address,undefined]``.

Importing the package builds the CPU kernels where it can; this command says what there is. CUDA
kernels are compiled when they are first launched. Where NVRTC is installed, this command compiles a
few of them to see that it works. ``--cuda`` takes some minutes to compile all of them for one
architecture, so that no launch has to: 80 for an A100, 90 for an H100 or H200, 100 for a B200. No
GPU is needed. ``--sanitize`` builds another library, whose memory accesses and arithmetic are
checked, and prints the environment to run a program with it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from kernels import compiler
from kernels.cuda import nvrtc
from kernels.cuda.catalogue import all_kernels
from kernels.cuda.kernel import Kernel

TRIED_ARCHITECTURE = 90
TRIED = ("linf_distance", "lp_distance_finish", "scatter")
"""A kernel with tiles, one without, one with votes."""
SANITIZER_FLAGS = ("-g", "-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")


def main() -> int:
    """Build, and say what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sanitize", metavar="KINDS", help="such as address,undefined")
    parser.add_argument("--cuda", type=int, metavar="ARCHITECTURE", help="such as 90 for sm_90")
    arguments = parser.parse_args()
    sanitizers: str | None = arguments.sanitize
    try:
        toolchain = compiler.default_toolchain()
        if sanitizers:
            flags = (*SANITIZER_FLAGS, f"-fsanitize={sanitizers}")
            toolchain = compiler.Toolchain(toolchain.compiler, flags)
        path = compiler.build(toolchain)
        compiled = "" if sanitizers else _compile_cuda(arguments.cuda)
    except compiler.BuildError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 1
    if sanitizers:
        print("\n".join(_environment(toolchain, sanitizers)))
    else:
        sets = ", ".join(compiler.instruction_sets())
        built = "built" if compiler.was_compiled_here(path) else "already built"
        print(f"kernels: {built} for {sets} with {toolchain.compiler}; cached in {path}")
        print(f"kernels: {compiled}")
    return 0


def _compile_cuda(architecture: int | None) -> str:
    """Compile all CUDA kernels for an architecture, or a few of them; return what was done."""
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
    kernels = all_kernels(even=())
    return [next(k for k in kernels if k.expression.startswith(name)) for name in TRIED]


def _environment(toolchain: compiler.Toolchain, sanitizers: str) -> list[str]:
    """Variables that make Python load the library: a sanitizer's runtime has to come first."""
    lines = [f"SUPNORM_CXXFLAGS={' '.join(toolchain.extra_flags)}", "ASAN_OPTIONS=detect_leaks=0"]
    if "address" in sanitizers.split(","):
        # With the C++ library beside it, else an exception of ours finds no one to catch it.
        names = ("libasan.so", "libstdc++.so.6")
        lines.append(f"LD_PRELOAD={' '.join(_library(toolchain, name) for name in names)}")
    return lines


def _library(toolchain: compiler.Toolchain, name: str) -> str:
    command = (toolchain.compiler, f"-print-file-name={name}")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
