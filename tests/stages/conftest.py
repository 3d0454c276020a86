"""What the stages' tests share: ranks as processes of their own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture
def start_rank() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """`start_rank(script, arguments, rank, world_size, port)` runs a script as one of the ranks.

    Its errors can be read from `stderr`; it is killed when the test ends.
    """
    started: list[subprocess.Popen[str]] = []

    def start(
        script: str, arguments: list[object], rank: int, world_size: int, port: int
    ) -> "subprocess.Popen[str]":
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
        environment = os.environ | {name: str(value) for name, value in ranks.items()}
        process = subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env=environment | {"MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
