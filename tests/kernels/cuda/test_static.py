from concurrent.futures import ThreadPoolExecutor

import pytest

from kernels.compiler import BuildError
from kernels.cuda import nvrtc
from kernels.cuda.catalogue import all_kernels
from kernels.cuda.cost import cost_of
from kernels.cuda.kernel import Kernel
from kernels.cuda.static import ARCHITECTURES, MOST_REGISTERS, TABLE_ARCHITECTURE, Row, rows

pytestmark = pytest.mark.skipif(not nvrtc.is_available(), reason="torch without CUDA: no NVRTC")
OFTEN = ("infinity, forward", "bounds, forward", "p = 8, forward", "p = 8, backward")


def keeps_its_budget(row: Row) -> bool:
    cost = cost_of(row.kernel, TABLE_ARCHITECTURE)
    assert cost.slots is not None
    return row.floor <= cost.slots <= row.budget and cost.spilled_bytes == 0


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
        costs = list(pool.map(lambda kernel: cost_of(kernel, architecture), kernels))
    assert max(cost.registers for cost in costs) <= MOST_REGISTERS
    pairs = zip(kernels, costs, strict=True)
    assert [kernel.expression for kernel, cost in pairs if cost.spilled_bytes > 0] == []


def test_what_does_not_compile_is_reported_with_the_compilers_words() -> None:
    with pytest.raises(BuildError, match="no_such_kernel"):
        nvrtc.compile_kernel(Kernel("scatter", "no_such_kernel"), 90)
