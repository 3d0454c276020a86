"""How much busy processes beside a computation slow it down: ``--waiting``.

OpenMP's threads wait for one another at the end of every parallel loop. By default they spin for a
while, each on a core that others could use; with ``OMP_WAIT_POLICY=PASSIVE`` they sleep. OpenMP
reads the variable when torch loads it, so each figure comes from a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

VARIABLE = "OMP_WAIT_POLICY"
POLICIES = {"default": {}, "passive": {VARIABLE: "PASSIVE"}}
"""What a policy is called in the table, and the environment that sets it."""
NUM_BUSY = (0, 1, 2)
"""How many busy processes run beside the measured one."""
_BUSY = "while True: pass"
_PROGRAM = """
import statistics, time, torch, kernels
x = torch.randn(512, 512, requires_grad=True)
weight = torch.randn(512, 512, requires_grad=True)
def step():
    start = time.perf_counter()
    distance = kernels.lp_distance(x, weight, 8.0)
    torch.autograd.grad(distance, (x, weight), torch.ones_like(distance))
    return 1000 * (time.perf_counter() - start)
times = sorted([step() for _ in range(205)][5:])
print(statistics.mean(times), times[-len(times) // 10])
"""


@dataclass(frozen=True)
class Step:
    """Forward and backward of ``lp_distance``: p = 8, 512 samples, inputs and outputs."""

    mean: float
    """Milliseconds."""
    slow: float
    """Milliseconds; a tenth of all steps take as long or longer."""


def measure() -> dict[str, list[Step]]:
    """Return for each policy how long a step takes beside each of `NUM_BUSY` processes."""
    figures: dict[str, list[Step]] = {policy: [] for policy in POLICIES}
    for num_busy in NUM_BUSY:
        for policy, variables in POLICIES.items():
            with ExitStack() as stack:
                for _ in range(num_busy):
                    stack.enter_context(_busy_process())
                figures[policy].append(_time_step(variables))
    return figures


def _time_step(variables: dict[str, str]) -> Step:
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    result = subprocess.run(
        (sys.executable, "-c", _PROGRAM),
        env=inherited | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    mean, slow = map(float, result.stdout.split())
    return Step(mean, slow)


@contextmanager
def _busy_process() -> Iterator[None]:
    with subprocess.Popen((sys.executable, "-c", _BUSY)) as process:
        try:
            yield
        finally:
            process.kill()
