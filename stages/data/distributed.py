"""How the ranks of a run meet, notice that one of them is gone, and part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, TCPStore

from pipeline.errors import LostRank
from pipeline.ranks import Ranks

MEETING_TIMEOUT = timedelta(minutes=10)
"""How long ranks wait for each other to start: programs load slowly from a busy file system."""


def join_ranks(ranks: Ranks, timeout_s: float = 60.0) -> torch.device:
    """Connect this process with the other ranks and say where it computes.

    Ranks find each other through MASTER_ADDR and MASTER_PORT; a lone rank needs neither. May be
    called again in the same process.

    Args:
        ranks: this process among the others.
        timeout_s: how long one rank may keep the others waiting in training.

    Returns:
        This rank's GPU where there are GPUs, else the CPU.
    """
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", ranks.local_rank) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    elif ranks.local_world_size > 1 and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks.local_world_size))
    if not dist.is_initialized():
        dist.init_process_group(
            "nccl" if has_gpu else "gloo",
            store=HashStore() if ranks.world_size == 1 else _meet(ranks),
            rank=ranks.rank,
            world_size=ranks.world_size,
            timeout=timedelta(seconds=timeout_s),
        )
    return device


def leave_ranks() -> None:
    """Part once every rank has come here: none leaves while another still needs it.

    Connections are closed in order, before the interpreter ends: gloo's threads, alive at the end
    of a process, make the C++ runtime abort it. A lone rank may train again in the same process.
    """
    dist.barrier()
    if dist.get_world_size() > 1:
        dist.destroy_process_group()


@contextmanager
def lost_ranks_reported(ranks: Ranks) -> Iterator[None]:
    """Turn what torch raises in the survivors when a rank dies or hangs into a message.

    Raises:
        LostRank: another rank closed its connection, or did not answer in time.
    """
    try:
        yield
    except RuntimeError as error:
        # gloo's errors have no type of their own.
        is_of_connection = isinstance(error, dist.DistError) or "gloo" in str(error)
        if ranks.world_size == 1 or not is_of_connection:
            raise
        reason = str(error).splitlines()[0].rpartition("] ")[2][:120]
        raise LostRank(
            f"another rank is gone or hangs ({reason}); its own message, or the machine's log, "
            "says why; the same command goes on from the last checkpoint"
        ) from None


def _meet(ranks: Ranks) -> TCPStore:
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return TCPStore(host, port, ranks.world_size, is_master=ranks.is_first, timeout=MEETING_TIMEOUT)
