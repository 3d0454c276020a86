"""One rank of `test_distributed.py`: trains each case for 50 steps and writes what came out.

Arguments: the shard artifact, the folder to write to, a JSON file with the cases, and `nudged` if
the weights are to start a last bit up, down or not away.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from pipeline.ranks import Ranks
from stages.data.augment import augment
from stages.data.distributed import join_ranks, leave_ranks
from stages.train.config import Settings
from stages.train.data import TrainingData, open_data
from stages.train.engine import Engine
from stages.train.objective import build_objective
from stages.train.schedule import Schedule

NUM_STEPS = 50


def main() -> None:
    data_dir, folder, cases = map(Path, sys.argv[1:4])
    ranks = Ranks.from_environment()
    device = join_ranks(ranks)
    for name, text in json.loads(cases.read_text()).items():
        settings = Settings.model_validate(text)
        data = open_data(data_dir, settings, ranks, device)
        tensors = train(settings, ranks, data, is_nudged="nudged" in sys.argv[4:])
        if ranks.is_first:
            save_file(tensors, folder / f"{name}.safetensors")
    leave_ranks()


def train(
    settings: Settings, ranks: Ranks, data: TrainingData, is_nudged: bool
) -> dict[str, torch.Tensor]:
    torch.manual_seed(settings.seed)
    eps_input = data.normalisation.eps_input(settings.eps_train)
    objective = build_objective(settings, data.manifest.image_shape, 3, eps_input)
    if is_nudged:
        nudge_(objective.network)
    engine = Engine(objective, settings.optimiser, settings.distributed, ranks)
    cut = data.batches.epoch_batches
    schedule = Schedule(settings, cut.steps, objective.rule, objective.loss)
    objective.train()
    losses = []
    for epoch in range(NUM_STEPS // cut.steps):
        for number, batch in enumerate(data.batches.epoch(epoch)):
            images = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            values = schedule.at(epoch * cut.steps + number)
            mean_count = data.batches.mean_count(number)
            inputs = data.normalisation.apply(images)
            loss = engine.step(inputs, batch.labels, values, mean_count).loss.clone()
            dist.all_reduce(loss)
            losses.append(loss / ranks.world_size)
    state = {name: tensor.clone() for name, tensor in engine.state().items()}
    engine.load_state(state)  # what is restored is what was saved, in every stage
    restored = engine.state()
    assert all(torch.equal(restored[name], tensor) for name, tensor in state.items())
    return state | {"losses": torch.stack(losses)}


@torch.no_grad()
def nudge_(network: torch.nn.Module) -> None:
    for weight in network.parameters():
        away = torch.randint_like(weight, -1, 2) * math.inf  # -inf, NaN or inf
        weight.copy_(torch.where(away.isnan(), weight, torch.nextafter(weight, away)))


if __name__ == "__main__":
    main()
