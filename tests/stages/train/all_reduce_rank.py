"""How long ranks take to sum a tensor of so many float32 numbers: the b and d of docs/scaling.md.

torchrun --nproc-per-node 2 tests/stages/train/all_reduce_rank.py 930826 512
"""

import sys
import time

import torch
import torch.distributed as dist

NUM_SUMS = 100


def main() -> None:
    dist.init_process_group("gloo")
    for size in map(int, sys.argv[1:]):
        numbers = torch.zeros(size)
        seconds = []
        for _ in range(NUM_SUMS):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(numbers)
            seconds.append(time.perf_counter() - start)
        if dist.get_rank() == 0:
            print(f"{size:,} numbers: {1e3 * sorted(seconds)[NUM_SUMS // 2]:.3f} ms (median)")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
