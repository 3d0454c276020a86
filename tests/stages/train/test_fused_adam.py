import copy
import math

import pytest
import torch

from kernels.cuda.kernel import Kernel
from pipeline.ranks import Ranks
from stages.models.linf.training import SurrogateAtP
from stages.train import engine
from stages.train.engine import _adam
from stages.train.fused_adam import FusedAdam
from stages.train.objective import Objective, build_objective
from stages.train.schedule import Schedule
from stages.train.weight_decay import lp_decay_
from stages.train.zero_state import MOMENTS
from tests.kernels.cuda.shim import HostShim

RATE, SCALE_RATE = 0.02, 0.006


@pytest.fixture(scope="module")
def shim() -> HostShim:
    return HostShim([Kernel("adam", "decayed_adam")])


def with_moments(optimiser: torch.optim.Optimizer) -> torch.optim.Optimizer:
    for group in optimiser.param_groups:
        group["lr"] = SCALE_RATE if group["is_of_loss"] else RATE
        for weight in group["params"]:
            moments = {name: torch.zeros_like(weight) for name in MOMENTS}
            optimiser.state[weight] = {"step": torch.zeros(()), **moments}
    return optimiser


KINDS = (
    ({"kind": "distance_mlp", "width": 16, "depth": 3}, {"kind": "mixture"}),
    ({"kind": "hybrid", "width": 16, "depth": 3, "hidden": 8}, {"kind": "ibp"}),
)


@pytest.mark.parametrize(("network", "loss"), KINDS, ids=["with a scale", "with other layers"])
def test_steps_are_those_of_decay_and_then_adam(tiny, shim, network, loss) -> None:
    settings = tiny(network=network, loss=loss, optimiser={"decay": 0.1})
    plain = build_objective(settings, (6, 6, 1), 3, 0.1)
    fused = copy.deepcopy(plain)
    adam = with_moments(_adam(plain, settings.optimiser))
    ours = with_moments(FusedAdam(fused, settings.optimiser, shim))
    for p in (8.0, 9.3, 40.0, math.inf):
        for weight, other in zip(plain.parameters(), fused.parameters(), strict=True):
            weight.grad = torch.randn_like(weight)
            other.grad = weight.grad.clone()
        surrogate = SurrogateAtP(0.0, {}, p)
        norms = plain.rule.decay_norms(surrogate)
        for weights, norm in norms:
            for weight in weights:
                lp_decay_(weight.data, norm, RATE * settings.optimiser.decay)
        adam.step()
        ours.set_norms([norm for _, norm in norms])
        ours.step()
        for weight, other in zip(plain.parameters(), fused.parameters(), strict=True):
            torch.testing.assert_close(other, weight, rtol=1e-5, atol=1e-6)
            for name in (*MOMENTS, "step"):
                expected = adam.state[weight][name]
                torch.testing.assert_close(ours.state[other][name], expected)


def test_an_engine_trains_alike_with_either(tiny, shim, monkeypatch) -> None:
    settings = tiny(loss={"kind": "mixture"}, optimiser={"decay": 0.1})
    plain = build_objective(settings, (6, 6, 1), 3, 0.1)
    fused = copy.deepcopy(plain)
    images, labels = torch.randn(4, 8, 1, 6, 6), torch.arange(8) % 3

    def trained(objective: Objective) -> dict[str, torch.Tensor]:
        own = engine.Engine(objective, settings.optimiser, settings.distributed, Ranks())
        own.load_state({name: value.clone() for name, value in own.state().items()})
        for step, batch in enumerate(images):
            own.step(
                batch, labels, Schedule(settings, 2, objective.rule, objective.loss).at(step), 8
            )
        return own.state()

    expected = trained(plain)
    monkeypatch.setattr(
        engine, "_optimiser", lambda objective, settings, *_: FusedAdam(objective, settings, shim)
    )
    for name, value in trained(fused).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
