"""When to stop: a signal may reach one rank only, or each at another step; they stop at one."""

from typing import Any

import torch
import torch.distributed as dist

from pipeline.execution.signals import RankStop


class StopConsensus:
    """Asks all ranks after every step whether one of them has been told to stop.

    The answer to a question is read at the next one, so that no rank waits for it. It travels
    through the CPU's memory: a GPU is not made to wait either.
    """

    def __init__(self, request: RankStop) -> None:
        self._request = request
        is_shared = dist.get_world_size() > 1
        self._group: Any = dist.new_group(backend="gloo") if is_shared else None
        self._answer = torch.zeros(1, dtype=torch.int32)
        self._pending: dist.Work | None = None

    def is_agreed(self) -> bool:
        """True on every rank after the same step; every rank must ask after every step."""
        if self._group is None:
            return self._request.is_made
        if self.settle():
            return True
        self._answer.fill_(self._request.is_made)
        self._pending = dist.all_reduce(
            self._answer, dist.ReduceOp.MAX, group=self._group, async_op=True
        )
        return False

    def settle(self) -> bool:
        """Wait for the answer that is under way, and return it."""
        if self._pending is not None:
            self._pending.wait()
            self._pending = None
        return bool(self._answer.item())
