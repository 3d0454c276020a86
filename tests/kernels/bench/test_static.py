from concurrent.futures import ThreadPoolExecutor

import pytest

from kernels.bench.cost import cost_of, registers_of
from kernels.bench.static import ARCHITECTURES, MOST_REGISTERS, TABLE_ARCHITECTURE, Row, rows
from kernels.compiler import BuildError
from kernels.cuda import nvrtc
from kernels.cuda.catalogue import all_kernels
from kernels.cuda.kernel import Kernel

pytestmark = pytest.mark.skipif(not nvrtc.is_available(), reason="torch without CUDA: no NVRTC")
OFTEN = ("infinity, forward", "bounds, forward", "p = 8, forward", "p = 8, backward")


def keeps_its_budget(row: Row) -> bool:
    cost = cost_of(row.kernel, TABLE_ARCHITECTURE)
    return row.floor <= cost.slots <= row.budget and cost.registers.spilled_bytes == 0


@pytest.mark.parametrize("operator", OFTEN)
def test_a_kernel_of_large_layers_keeps_its_budget(operator: str) -> None:
    assert keeps_its_budget(next(row for row in rows() if row.operator == operator))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_kernels_of_large_layers_keep_their_budgets() -> None:
    with ThreadPoolExecutor() as pool:
        kept = list(pool.map(keeps_its_budget, rows()))
    pairs = zip(rows(), kept, strict=True)
    assert [row.operator for row, is_kept in pairs if not is_kept] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles_without_spilling_registers(architecture: int) -> None:
    kernels = all_kernels()
    with ThreadPoolExecutor() as pool:
        registers = list(pool.map(lambda kernel: registers_of(kernel, architecture), kernels))
    assert max(one.used for one in registers) <= MOST_REGISTERS
    pairs = zip(kernels, registers, strict=True)
    assert [kernel.expression for kernel, one in pairs if one.spilled_bytes > 0] == []


def test_what_does_not_compile_is_reported_with_the_compilers_words() -> None:
    with pytest.raises(BuildError, match="no_such_kernel"):
        nvrtc.compile_kernel(Kernel("scatter", "no_such_kernel"), 90)
