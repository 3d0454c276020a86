"""Adam and the l_p decay in one kernel a weight, for GPUs: weights are read and written once."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.cuda.adam import control_of, decayed_adam_
from kernels.cuda.kernel import Device
from stages.train.config import OptimiserSettings
from stages.train.objective import Objective


class FusedAdam(torch.optim.Optimizer):
    """What `weight_decay` and then torch's Adam do, on whole weights; its state has Adam's names.

    The network's weights decay at the norms of `set_norms`, the loss's own parameters not at all.

    Args:
        objective: what is trained.
        settings: of the optimiser.
        device: what runs the kernels.
    """

    def __init__(self, objective: Objective, settings: OptimiserSettings, device: Device) -> None:
        rule = objective.rule
        groups: list[dict[str, Any]] = [
            {"params": list(weights), "is_of_loss": False, "decay": settings.decay, "part": part}
            for part, (weights, _) in enumerate(rule.decay_norms(rule.surrogate_at(0.0)))
        ]
        own = list(objective.loss.parameters())
        groups.append({"params": own, "is_of_loss": True, "decay": 0.0, "part": None})
        used = [group for group in groups if group["params"]]
        super().__init__(used, {"lr": 0.0, "p": 2.0})
        self._betas, self._eps = settings.betas, settings.adam_eps
        self._device = device
        self._num_steps: int | None = None

    def set_norms(self, norms: Sequence[float]) -> None:
        """Set the norm at which each group of `TrainingRule.decay_norms` decays from now on."""
        for group in self.param_groups:
            if group["part"] is not None:
                group["p"] = norms[group["part"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change every weight that has a gradient, and its moments."""
        assert closure is None
        number = self._next_number()
        for group in self.param_groups:
            rates = group["lr"], group["decay"], group["p"]
            control = _beside(control_of(number, *rates, self._betas, self._eps), group["params"])
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                mean, square = _rows(state["exp_avg"]), _rows(state["exp_avg_sq"])
                grad = _rows(weight.grad.contiguous())
                decayed_adam_(self._device, _rows(weight.data), grad, mean, square, control)
                state["step"].add_(1)

    def _next_number(self) -> int:
        """Of this step, from 1; only the first step after a start has to read it."""
        if self._num_steps is None:
            self._num_steps = int(next(iter(self.state.values()))["step"])
        self._num_steps += 1
        return self._num_steps


def _rows(tensor: Tensor) -> Tensor:
    """Weights with one dimension are one row."""
    return tensor if tensor.dim() == 2 else tensor.view(1, -1)


def _beside(control: Tensor, weights: list[Tensor]) -> Tensor:
    """The numbers where the weights lie, copied without waiting."""
    device = weights[0].device
    return control.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else control
