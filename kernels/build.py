"""Compile the kernels: ``python -m kernels.build [--cuda 90] [--sanitize address,undefined]``.

Importing the package has built those for the CPU already where it could; this says what there is.
CUDA kernels are compiled when they are first launched. Here, wherever NVRTC is, a few are compiled
to see that it works; ``--cuda`` compiles all of them for one architecture, in minutes, so that no
launch has to: 80 for an A100, 90 for an H100 or H200, 100 for a B200. No GPU is needed. With
``--sanitize`` it builds another library, whose memory accesses and arithmetic are checked, and
prints the environment to run a program with it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from kernels import compiler
from kernels.cuda.precompile import precompile

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
        compiled = "" if sanitizers else precompile(arguments.cuda)
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
