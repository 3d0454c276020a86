"""One rank of `test_distributed.py`: loss and gradient of a first step in float64, no DeepSpeed.

Arguments: the shard artifact, the folder to write to, a JSON file with the cases.
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from pipeline.ranks import Ranks
from stages.data.distributed import join_ranks, leave_ranks
from stages.train.config import Settings
from stages.train.data import TrainingData, open_data
from stages.train.objective import build_objective
from stages.train.schedule import Schedule


def main() -> None:
    data_dir, folder, cases = map(Path, sys.argv[1:])
    ranks = Ranks.from_environment()
    device = join_ranks(ranks)
    for name, text in json.loads(cases.read_text()).items():
        settings = Settings.model_validate(text)
        tensors = gradient(settings, open_data(data_dir, settings, ranks, device))
        for tensor in tensors.values():
            dist.all_reduce(tensor)
            tensor.div_(ranks.world_size)
        if ranks.is_first:
            save_file(tensors, folder / f"{name}.safetensors")
    leave_ranks()


def gradient(settings: Settings, data: TrainingData) -> dict[str, Tensor]:
    """This rank's loss and gradient, whose means over the ranks are those of the global batch."""
    torch.manual_seed(settings.seed)
    eps_input = data.normalisation.eps_input(settings.eps_train)
    objective = build_objective(settings, data.manifest.image_shape, 3, eps_input)
    # Away from -10, where entries decide for all images and true gradients are 0.
    for layer in objective.network.hidden:
        layer.distance.weight.data.clamp_(min=-3)
    objective = objective.double().train()
    objective.rule.watch()
    batch = next(data.batches.epoch(0))
    inputs = data.normalisation.apply(batch.images).double()
    steps = data.batches.epoch_batches.steps
    values = Schedule(settings, steps, objective.rule, objective.loss).at(2 * steps)
    loss = objective(inputs, batch.labels, values, data.batches.mean_count(0)).loss
    loss.backward()
    found = {name: value.grad for name, value in objective.named_parameters()}
    return {"loss": loss.detach()} | {
        name: grad for name, grad in found.items() if grad is not None
    }


if __name__ == "__main__":
    main()
