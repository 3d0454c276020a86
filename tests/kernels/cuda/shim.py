"""Runs the kernels on the CPU, thread by thread, from the very same source: shim.h.

For tests on machines without a GPU, and for finding races: it is some thousand times slower.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kernels import compiler
from kernels.cuda.kernel import SOURCE_DIR, Arguments, Kernel, Launch, source_texts

# No contraction: where the GPU has one rounding, the source says fmaf.
FLAGS = ("-std=c++17", "-O1", "-march=native", "-ffp-contract=off", "-fno-math-errno")
SHIM_DIR = Path(__file__).parent
LOCAL_FLAGS = (f"-I{SHIM_DIR}", "-fPIC", "-shared", "-DSUPNORM_HOST_SHIM", "-Wno-unknown-pragmas")

_PROGRAM = """\
#include "{source}.cu"
namespace supnorm {{
template <class Args>
void start(void (*kernel)(Args), const unsigned* grid, int threads, size_t shared_bytes,
           int is_ascending, size_t size, const void* args) {{
  if (size != sizeof(Args)) abort();
  shim::run_grid({{grid[0], grid[1], grid[2]}}, threads, shared_bytes, is_ascending != 0,
                 [&] {{ kernel(*static_cast<const Args*>(args)); }});
}}
{entries}
}}
"""
_ENTRY = """\
extern "C" void start_{number}(const unsigned* grid, int threads, size_t shared_bytes,
                               int is_ascending, size_t size, const void* args) {{
  start({expression}, grid, threads, shared_bytes, is_ascending, size, args);
}}
"""


class HostShim:
    """A pretended GPU. Blocks and threads run in ascending order, or in descending."""

    def __init__(
        self,
        kernels: Sequence[Kernel],
        num_processors: int = 3,
        source_dir: Path = SOURCE_DIR,
        build_dir: Path | None = None,
        others: HostShim | None = None,
    ) -> None:
        """Compile the kernels; those of one source become one library.

        Args:
            kernels: All that will be launched.
            num_processors: What launches are to be planned for.
            source_dir: Where the sources are; tests plant faults in copies.
            build_dir: Where the libraries go; by default where compiled kernels are kept.
            others: Another shim, whose kernels serve where these have none.

        Raises:
            BuildError: There is no C++ compiler, or it failed.
        """
        self.num_processors = num_processors
        self.is_ascending = True
        self._entries: dict[Kernel, Any] = dict(others._entries) if others else {}
        for source in sorted({kernel.source for kernel in kernels}):
            mine = sorted({k.expression for k in kernels if k.source == source})
            path = _build(source, mine, source_dir, build_dir or compiler.build_dir())
            library = ctypes.CDLL(str(path))
            for number, expression in enumerate(mine):
                self._entries[Kernel(source, expression)] = library[f"start_{number}"]

    def launch(self, kernel: Kernel, launch: Launch, arguments: Arguments) -> None:
        """Run a kernel to its end."""
        self._entries[kernel](
            (ctypes.c_uint * 3)(*launch.grid),
            launch.threads,
            ctypes.c_size_t(launch.shared_bytes),
            int(self.is_ascending),
            ctypes.c_size_t(ctypes.sizeof(arguments)),
            ctypes.byref(arguments),
        )


def _build(source: str, expressions: Sequence[str], source_dir: Path, build_dir: Path) -> Path:
    entries = (_ENTRY.format(number=n, expression=e) for n, e in enumerate(expressions))
    program = _PROGRAM.format(source=source, entries="".join(entries))
    toolchain = compiler.default_toolchain()
    texts = [*source_texts(source, source_dir), *(p.read_text() for p in SHIM_DIR.glob("*.h"))]
    parts = "\0".join([program, toolchain.compiler, *FLAGS, *texts])
    digest = hashlib.sha256(parts.encode()).hexdigest()[:20]
    path = build_dir / f"shim-{source}-{digest}.so"
    if path.exists():
        return path
    build_dir.mkdir(parents=True, exist_ok=True)
    staged = path.with_suffix(".building")
    command = (toolchain.compiler, *FLAGS, *LOCAL_FLAGS, f"-I{source_dir}", "-x", "c++", "-")
    result = subprocess.run(
        (*command, "-o", str(staged)), input=program, capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        raise compiler.BuildError(f"{' '.join(command)}\n{result.stderr.strip()}")
    staged.replace(path)
    return path
