"""The real training step against a formula of its own: float64, plain PyTorch, nothing of ours."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.ranks import Ranks
from stages.train.config import Settings
from stages.train.engine import Engine
from stages.train.objective import build_objective
from stages.train.schedule import Schedule

NUM_STEPS, BATCH, STEPS_PER_EPOCH = 20, 32, 10
EPS_INPUT = 0.3
PHASES = {
    "p 8": {"rise_epoch": 2, "infinite_epoch": 2},
    "rising p": {"rise_epoch": 0, "infinite_epoch": 2},
    "infinity": {"rise_epoch": 0, "infinite_epoch": 0},
    "all three": {"rise_epoch": 0.5, "infinite_epoch": 1.5},
}
HINGE = {"network": {"kind": "distance_mlp", "width": 12, "depth": 3}, "loss": {"kind": "hinge"}}
MIXTURE = {"network": HINGE["network"], "loss": {"kind": "mixture"}}
IBP = {
    "network": {"kind": "hybrid", "width": 12, "depth": 2, "hidden": 6},
    "loss": {"kind": "ibp", "worst_weight": 0.6},
    "radius": {"kind": "linear", "epochs": 1},
}


@pytest.mark.parametrize("start", ["drawn", "identity"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("kind", [HINGE, MIXTURE, IBP], ids=["hinge", "mixture", "hybrid ibp"])
def test_twenty_steps_follow_the_formula(
    tiny: Callable[..., Settings], kind, phase: str, start: str
) -> None:
    settings = tiny(**kind, schedule={"epochs": 2}, rule=PHASES[phase], optimiser={"decay": 0.01})
    torch.manual_seed(3)
    objective = build_objective(settings, (3, 3, 1), 3, EPS_INPUT)
    if start == "drawn":
        for layer in objective.network.hidden:
            layer.distance.weight.data.normal_()
    formula = Formula(settings, {name: t.double() for name, t in objective.state_dict().items()})
    engine = Engine(objective, settings.optimiser, settings.distributed, Ranks())
    schedule = Schedule(settings, STEPS_PER_EPOCH, objective.rule, objective.loss)

    generator = torch.Generator().manual_seed(4)
    for step in range(NUM_STEPS):
        images = torch.randn(BATCH, 1, 3, 3, generator=generator)
        labels = (images[:, 0, 0, 0] > 0).long() + (images[:, 0, 2, 2] > 0).long()
        outcome = engine.step(images, labels, schedule.at(step), BATCH)
        loss = formula.step(step, images.flatten(1).double(), labels)
        assert outcome.loss.item() == pytest.approx(loss, rel=1e-4)

    for name, tensor in objective.state_dict().items():
        expected = formula.tensors[name].detach()
        difference = (tensor - expected).abs().max()
        assert difference <= 1e-4 * expected.abs().max(), name


class Formula:
    """Training as maths: forward, loss, Adam, decay and schedules written out."""

    def __init__(self, settings: Settings, tensors: dict[str, Tensor]) -> None:
        self.settings = settings
        self.tensors = tensors
        self.names = [name for name in tensors if "running_mean" not in name]
        self.first = {name: torch.zeros_like(tensors[name]) for name in self.names}
        self.second = {name: torch.zeros_like(tensors[name]) for name in self.names}
        self.shares: dict[str, Tensor] = {}

    def step(self, step: int, x: Tensor, labels: Tensor) -> float:
        p, eps, weight, cosine = self.course(step)
        leaves = {name: self.tensors[name].clone().requires_grad_() for name in self.names}
        loss = self.loss(leaves, x, labels, p, eps, weight)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for name, gradient in zip(self.names, gradients, strict=True):
            if name in self.shares:
                rows = torch.arange(len(gradient))
                gradient[rows, rows % gradient.shape[1]] *= self.shares[name]
            rate = (0.006 if name == "loss.logit_scale" else 0.02) * cosine
            if name != "loss.logit_scale":
                self.decay(name, p, rate * 0.01)
            self.adam(name, gradient, rate, step + 1)
        return loss.item()

    def course(self, step: int) -> tuple[float, float, float, float]:
        """p, eps, weight of the cross-entropy and cosine factor."""
        rule, epoch = self.settings.rule, step / STEPS_PER_EPOCH
        a, b = rule.rise_epoch, rule.infinite_epoch
        rise = 0.0 if epoch < a else 1.0 if epoch >= b else (epoch - a) / (b - a)
        p = math.inf if epoch >= b else 8 * 125**rise
        is_ramp = self.settings.radius.kind == "linear"
        eps = EPS_INPUT * (min(1.0, epoch / 1.0) if is_ramp else 1.0)
        return p, eps, 0.1 * 0.005**rise, 0.5 * (1 + math.cos(math.pi * step / NUM_STEPS))

    def loss(self, w, x, labels, p, eps, weight) -> Tensor:
        k = 0
        while f"network.hidden.{k}.distance.weight" in w:
            name = f"network.hidden.{k}.distance.weight"
            y = distance(x, w[name], p)
            if w[name].shape[0] >= w[name].shape[1]:
                self.shares[name] = share(x, w[name], y, p).detach()
            x = y
            mean = x.mean(0)
            running = self.tensors[f"network.hidden.{k}.centering.running_mean"]
            running.copy_(0.9 * running + 0.1 * mean.detach())
            x = x - mean
            k += 1
        rows = torch.arange(len(x))
        if self.settings.network.kind == "hybrid":
            return self.ibp_loss(w, x, labels, eps)
        logits = -distance(x, w["network.head.distance.weight"], p) - w["network.head.bias"]
        t = (logits - logits[rows, labels][:, None] + 2 * eps) / (2 * eps)
        is_other = torch.ones_like(t)
        is_other[rows, labels] = 0
        t = t * is_other
        if self.settings.loss.kind == "hinge":
            t = t.clamp(min=0)
            return 0.75 * t.max(1).values.mean() + 0.25 * t.mean()
        scaled = w["loss.logit_scale"] * logits
        cross_entropy = (scaled.logsumexp(1) - scaled[rows, labels]).mean()
        return t.clamp(0, 1).max(1).values.mean() + weight * cross_entropy

    def ibp_loss(self, w, x, labels, eps) -> Tensor:
        first, second = w["network.head.first.weight"], w["network.head.second.weight"]
        before = x @ first.T + w["network.head.first.bias"]
        distributed = eps * first.abs().sum(1)
        low, high = torch.tanh(before - distributed), torch.tanh(before + distributed)
        logits = torch.tanh(before) @ second.T + w["network.head.second.bias"]
        worst = torch.zeros_like(logits)
        for j in range(3):
            rows = second[j] - second[labels]
            biases = w["network.head.second.bias"][j] - w["network.head.second.bias"][labels]
            # The largest value of rows @ h + biases over low <= h <= high, corner by corner.
            corner = torch.where(rows > 0, high, low)
            worst[:, j] = (rows * corner).sum(1) + biases
        return 0.4 * F.cross_entropy(logits, labels) + 0.6 * F.cross_entropy(worst, labels)

    def decay(self, name: str, p: float, amount: float) -> None:
        w = self.tensors[name]
        if "distance" not in name:
            w.mul_(1 - amount)
        elif math.isinf(p):
            for row in w:
                row[row.abs().argmax()] *= 1 - amount
        else:
            largest = w.abs().amax(1, keepdim=True)
            norm = largest * ((w.abs() / largest) ** p).sum(1, keepdim=True) ** (1 / p)
            w.sub_(amount * (w.abs() / norm) ** (p - 2) * w)

    def adam(self, name: str, gradient: Tensor, rate: float, count: int) -> None:
        self.first[name] = 0.9 * self.first[name] + 0.1 * gradient
        self.second[name] = 0.99 * self.second[name] + 0.01 * gradient**2
        mean = self.first[name] / (1 - 0.9**count)
        square = self.second[name] / (1 - 0.99**count)
        self.tensors[name] = self.tensors[name] - rate * mean / (square.sqrt() + 1e-10)


def share(x: Tensor, w: Tensor, y: Tensor, p: float) -> Tensor:
    """How much of its gradient an identity entry keeps (`identity_gradient_mask`)."""
    kept = []
    for o, row in enumerate(w):
        i = o % len(row)
        ratio = ((x[:, i] - row[i]).abs() / y[:, o]).min()
        decided = (ratio > 1 - 1e-12).double() if math.isinf(p) else ratio ** (p - 1)
        kept.append((((1 - decided) - 1e-3) / 1e-3).clamp(0, 1))
    return torch.stack(kept)


def distance(x: Tensor, w: Tensor, p: float) -> Tensor:
    t = (x[:, None] - w).abs()
    if math.isinf(p):
        return t.max(2).values
    return torch.exp(torch.logsumexp(p * torch.log(t), 2) / p)
