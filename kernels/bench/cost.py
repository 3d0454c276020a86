"""What compiled kernels cost, read from their machine code: no GPU is needed.

A slot is one instruction of one warp: a processor of sm_90 starts four in a cycle, so a slot an
element is the least time that 128 elements take on it, in cycles. The code that a stage of the
pipeline runs once is spread over the stage's elements.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kernels import compiler
from kernels.cuda.kernel import Kernel
from kernels.cuda.nvrtc import Binary, compile_kernel

# Of csrc/cuda: turns of the innermost loop a stage; stages between two moves of sums to memory.
_TURNS_A_STAGE = 4
_LONG_SUM, _SHORT_SUM = 4, 2

_UNITS = {
    # Opcodes of a unit, and how many slots' time one takes it: 64 or 16 lanes a cycle, not 128.
    "integer and minimum": (("FMNMX", "VIMNMX", "VIMNMX3", "IMNMX", "LOP3", "SEL", "ISETP"), 2),
    "special function": (("MUFU",), 8),
}


@dataclass(frozen=True)
class Registers:
    """What one compiled kernel asks of a thread."""

    used: int
    spilled_bytes: int
    """Of registers that had to go to memory."""


@dataclass(frozen=True)
class Cost:
    """What one compiled kernel with a loop over elements costs."""

    registers: Registers
    slots: float
    """Instructions an element."""
    unit_slots: float
    """Time of the busiest slower unit, in slots an element: the larger of the two counts."""


@functools.cache
def registers_of(kernel: Kernel, architecture: int) -> Registers:
    """Compile a kernel and look at its registers.

    Raises:
        BuildError: There is no NVRTC or no cuobjdump.
    """
    binary = compile_kernel(kernel, architecture)
    usage = _dump("-res-usage", binary)
    used = re.search(rf"Function {re.escape(binary.name)}:\s*(.*)", usage)
    assert used, f"cuobjdump does not list {binary.name}"
    numbers = {name: int(value) for name, value in re.findall(r"(\w+):(\d+)", used[1])}
    return Registers(numbers["REG"], numbers["STACK"] + numbers["LOCAL"])


@functools.cache
def cost_of(kernel: Kernel, architecture: int) -> Cost:
    """Compile a kernel with a loop over elements and count.

    Raises:
        BuildError: There is no NVRTC or no cuobjdump.
    """
    binary = compile_kernel(kernel, architecture)
    elements = _elements_a_turn(kernel)
    code = _instructions(_dump("-sass", binary), binary.name)
    weights = _weighted(code, _stages_a_sum(kernel))
    unit_slots = max(
        sum(weights[name] for name in names) * time / elements for names, time in _UNITS.values()
    )
    slots = sum(weights.values()) / elements
    return Cost(registers_of(kernel, architecture), slots, unit_slots)


def _elements_a_turn(kernel: Kernel) -> int:
    """How many elements a turn of the innermost loop computes, a thread.

    Only where rows are aligned: what moves single floats loops by itself, which a count would miss.
    """
    if tile := re.search(r"Tile<(\d+), (\d+), 4, \d+>", kernel.expression):
        return int(tile[1]) * int(tile[2]) * 4
    assert re.match(r"lp_distance_backward<.*, 4>", kernel.expression), kernel.expression
    return 8 * 4 * 4


def _stages_a_sum(kernel: Kernel) -> int:
    is_short = re.match(r"lp_distance_(even<[246],|power<0,)", kernel.expression)
    return _SHORT_SUM if is_short else _LONG_SUM


def _weighted(code: list[tuple[int, str, int | None]], stages_a_sum: int) -> Counter[str]:
    """Opcodes of the hot loops, each counted by how often it runs in a turn of the innermost."""
    loops = [(target, at) for at, _, target in code if target is not None and target < at]
    stages = [loop for loop in loops if any(loop != o and _holds(loop, o) for o in loops)]
    innermost = next(loop for loop in loops if stages and _holds(stages[0], loop))
    around = sorted((loop for loop in loops if _holds(loop, innermost)), key=lambda loop: -loop[0])
    inside = [loop for loop in loops if _holds(around[-1], loop)]
    assert sorted(inside) == sorted(around), "a loop beside the innermost: its turns are not known"
    weights = (1.0, 1 / _TURNS_A_STAGE, 1 / (_TURNS_A_STAGE * stages_a_sum))
    counts: Counter[str] = Counter()
    done = (0, -1)
    for loop, weight in zip(around, weights, strict=False):
        for at, opcode, _ in code:
            if loop[0] <= at <= loop[1] and not done[0] <= at <= done[1]:
                counts[opcode] += weight  # type: ignore[assignment]
        done = loop
    return counts


def _holds(outer: tuple[int, int], inner: tuple[int, int]) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def _instructions(listing: str, name: str) -> list[tuple[int, str, int | None]]:
    """Address, opcode and, of a branch, target of every instruction of a function."""
    function = listing.split(f"Function : {name}\n", 1)[1].split("Function : ", 1)[0]
    found = []
    for line in re.finditer(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?\w+ )?([^;]*);", function, re.M):
        words = line[2].split()
        opcode = words[0].split(".")[0]
        target = int(words[-1], 16) if opcode == "BRA" else None
        found.append((int(line[1], 16), opcode, target))
    return found


def _dump(option: str, binary: Binary) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.code)
        file.flush()
        command = [_cuobjdump(), option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@functools.cache
def _cuobjdump() -> str:
    """On the path, or where Triton's wheel (which torch's CUDA wheels need) has it."""
    if found := shutil.which("cuobjdump"):
        return found
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        path = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        if path.exists():
            return str(path)
    raise compiler.BuildError("no cuobjdump found; it comes with CUDA and with Triton's wheel")
