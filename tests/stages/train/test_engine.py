import pytest
import torch

from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.train.engine import Engine
from stages.train.losses.mixture.loss import SMALLEST_SCALE
from stages.train.objective import build_objective
from stages.train.schedule import Schedule


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_the_scale_is_lifted_to_its_floor(tiny, zero_stage) -> None:
    settings = tiny(loss={"kind": "mixture"}, distributed={"zero_stage": zero_stage})
    objective = build_objective(settings, (6, 6, 1), 3, 0.1)
    objective.loss.logit_scale.data.fill_(-0.3)
    engine = Engine(objective, settings.optimiser, settings.distributed, Ranks())
    images, labels = torch.randn(8, 1, 6, 6), torch.arange(8) % 3
    for _ in range(2):  # what is lifted stays so: the optimiser's copy too
        engine.step(images, labels, Schedule(settings, 10, objective.rule, objective.loss).at(0), 8)
        assert engine.state()["objective.loss.logit_scale"].item() >= SMALLEST_SCALE * 0.999


def test_another_networks_state_is_refused(tiny) -> None:
    engines = []
    for width in (8, 9):
        settings = tiny(network={"kind": "distance_mlp", "width": width, "depth": 2})
        objective = build_objective(settings, (6, 6, 1), 3, 0.1)
        engines.append(Engine(objective, settings.optimiser, settings.distributed, Ranks()))
    images, labels = torch.randn(8, 1, 6, 6), torch.arange(8) % 3
    engines[0].step(images, labels, Schedule(settings, 10, objective.rule, objective.loss).at(0), 8)
    with pytest.raises(StageError, match="another network's tensors"):
        engines[1].load_state(engines[0].state())
