"""Compile the CPU kernels, in seconds: ``python -m kernels.build``."""

from __future__ import annotations

import sys
import time

from kernels import compiler


def main() -> int:
    """Build, and say what was done."""
    start = time.monotonic()
    try:
        toolchain = compiler.default_toolchain()
        path = compiler.build(toolchain)
    except compiler.BuildError as error:
        print(f"kernels: {error}", file=sys.stderr)
        return 1
    print(f"kernels: {path} ({time.monotonic() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
