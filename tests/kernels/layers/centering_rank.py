"""One rank of the two-process test of Centering: ``centering_rank.py RANK PORT DIR FIRST LAST``."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from kernels.layers import Centering

rank, port, result_dir = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
rows = slice(int(sys.argv[4]), int(sys.argv[5]))
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
dist.init_process_group("gloo", rank=rank, world_size=2)
x = torch.load(result_dir / "samples.pt")[rows].requires_grad_()
layer = Centering(3)
out = layer(x)
(out.square() * torch.load(result_dir / "weights.pt")[rows]).sum().backward()
torch.save((out.detach(), x.grad, layer.running_mean), result_dir / f"{rank}.pt")
dist.destroy_process_group()
