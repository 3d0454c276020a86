"""A training step (forward, backward, all-reduce, decay, Adam) and a training's whole state."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kernels.backend import backend
from kernels.cuda.driver import gpu
from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.data.distributed import join_ranks
from stages.train.config import DistributedSettings, OptimiserSettings
from stages.train.fused_adam import FusedAdam
from stages.train.objective import Objective, StepOutput
from stages.train.schedule import StepValues
from stages.train.weight_decay import lp_decay_
from stages.train.zero_state import MOMENTS, start_deepspeed

OBJECTIVE = "objective."
"""Begins the names of weights and running means in a state."""

NORM_STEPS = 50
"""The norm of the gradient is measured this often: it reads every gradient once more."""


class Engine:
    """An objective under training: one `step` is one global batch over all ranks.

    Args:
        objective: float32, the same weights on every rank.
        settings: of the optimiser.
        distributed: over the ranks.
        ranks: this process among the others; `join_ranks` comes first.
    """

    def __init__(
        self,
        objective: Objective,
        settings: OptimiserSettings,
        distributed: DistributedSettings,
        ranks: Ranks,
    ) -> None:
        self._decay = settings.decay
        self.device = join_ranks(ranks)
        self.objective = objective.to(self.device)
        self._plain = copy.deepcopy(objective.network) if distributed.zero_stage == 3 else None
        self._optimiser = _optimiser(self.objective, settings, distributed, self.device)
        objective.rule.watch()
        self._state = start_deepspeed(self.objective, self._optimiser, settings, distributed, ranks)
        self.gradient_norm: float | None = None
        """Euclidean norm of the newest gradient that was measured; None: none was yet."""

    def step(
        self, images: Tensor, labels: Tensor, values: StepValues, mean_count: float
    ) -> StepOutput:
        """Forward, backward, all-reduce, decay, Adam.

        The gradient is the mean over the global batch; the decay is decoupled, taken from the
        weights before Adam moves them.

        Args:
            images: this rank's share, normalised (B, C, H, W).
            labels: int64 (B,).
            values: surrogate, radius, learning rates, ... of this step.
            mean_count: images of the global batch divided by the ranks; where it is not B, the
                ranks' shares are not equal.

        Returns:
            Loss and number right of this rank's share.
        """
        model = self._state.engine
        for group in self._optimiser.param_groups:
            is_of_loss = group["is_of_loss"]
            group["lr"] = values.loss_learning_rate if is_of_loss else values.learning_rate
        output: StepOutput = model(images, labels, values, mean_count)
        model.backward(output.loss)
        self._decay_weights(values)
        is_measured = model.global_steps % NORM_STEPS == 0
        norm = self._state.step(is_measured)
        self.gradient_norm = norm if is_measured else self.gradient_norm
        self.objective.loss.after_step(self._state)
        return StepOutput(output.loss.detach(), output.num_correct)

    def state(self) -> dict[str, Tensor]:
        """All tensors that training goes on from: those of network and loss, and Adam's moments.

        Whole tensors, whatever the number of ranks and the ZeRO stage; every rank must ask. Some
        are not copies: write them before the next step.
        """
        return dict(self._named_tensors())

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        """Set every tensor of `state` again.

        Raises:
            StageError: names or shapes do not fit this objective.
        """
        own = self.state()
        fits = own.keys() == state.keys() and all(own[k].shape == state[k].shape for k in own)
        if not fits:
            raise StageError(
                "the checkpoint holds another network's tensors, or those of another version; "
                "remove the stage's working folder to start afresh"
            )
        state = {name: tensor.to(self.device) for name, tensor in state.items()}
        for name, buffer in self.objective.named_buffers():
            buffer.copy_(state[f"{OBJECTIVE}{name}"])
        for name, parameter in self.objective.named_parameters():
            self._state.set_weight(parameter, state[f"{OBJECTIVE}{name}"])
            for moment in MOMENTS:
                self._state.set_moment(parameter, moment, state[f"adam.{moment}.{name}"])
        for adam in self._optimiser.state.values():
            adam["step"].copy_(state["adam.step"])

    def whole_network(self, state: dict[str, Tensor]) -> Any:
        """The network with whole tensors, to evaluate it or to hand it on.

        Args:
            state: as `state` gave it after the newest step.
        """
        if self._plain is None:
            return self.objective.network
        start = f"{OBJECTIVE}network."
        own = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        self._plain.load_state_dict(own)
        return self._plain

    @torch.no_grad()
    def _decay_weights(self, values: StepValues) -> None:
        """Decay the network's weights, or tell the optimiser at which norms it is to do so."""
        groups = self.objective.rule.decay_norms(values.surrogate)
        amount = values.learning_rate * self._decay
        if isinstance(self._optimiser, FusedAdam):
            self._optimiser.set_norms([norm for _, norm in groups])
        elif amount:
            for parameters, norm in groups:
                for parameter in parameters:
                    weight = self._state.weight(parameter)
                    lp_decay_(weight, norm, amount)
                    self._state.set_weight(parameter, weight)

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, buffer in self.objective.named_buffers():
            yield f"{OBJECTIVE}{name}", buffer
        for name, parameter in self.objective.named_parameters():
            yield f"{OBJECTIVE}{name}", self._state.weight(parameter)
            for moment in MOMENTS:
                yield f"adam.{moment}.{name}", self._state.moment(parameter, moment)
        yield "adam.step", next(iter(self._optimiser.state.values()))["step"]


def _optimiser(
    objective: Objective,
    settings: OptimiserSettings,
    distributed: DistributedSettings,
    device: torch.device,
) -> torch.optim.Optimizer:
    """Adam, on a GPU that holds whole weights with the decay in the same kernel."""
    if device.type == "cuda" and distributed.zero_stage == 0 and backend().cuda == "nvrtc":
        return FusedAdam(objective, settings, gpu(torch.cuda.current_device()))
    return _adam(objective, settings)


def _adam(objective: Objective, settings: OptimiserSettings) -> torch.optim.Adam:
    """Adam, fused; a loss's own parameters have a group for their learning rate."""
    groups: list[dict[str, Any]] = [
        {"params": list(part.parameters()), "is_of_loss": part is objective.loss}
        for part in (objective.network, objective.loss)
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.Adam(used, betas=settings.betas, eps=settings.adam_eps, fused=True)
