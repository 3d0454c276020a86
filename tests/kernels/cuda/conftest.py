"""The kernels' own source, run by the host shim; everything else as on a GPU."""

import pytest

from kernels.cuda.catalogue import all_kernels
from tests.kernels.cuda.shim import HostShim

EVEN = (2, 8, 14, 30)
"""Multiplication chains that are tested: without and with a scale, and the odd one out."""


@pytest.fixture(scope="session")
def compiled_shim() -> HostShim:
    return HostShim(all_kernels(EVEN))


@pytest.fixture(params=["ascending", "descending"])
def shim(compiled_shim: HostShim, request: pytest.FixtureRequest) -> HostShim:
    """Blocks and threads in one order, then in the other; of a small GPU."""
    compiled_shim.is_ascending = request.param == "ascending"
    compiled_shim.num_processors = 3
    return compiled_shim
