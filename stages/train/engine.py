"""DeepSpeed, behind one door: what starts it, steps it, and reads or restores its state.

Nothing else imports DeepSpeed. Here it needs no compiler, no MPI and no free port for a lone rank.
"""

import copy
import os
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from kernels.backend import backend
from kernels.cuda.driver import gpu
from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.data.distributed import join_ranks
from stages.models.linf.identity_gradient_mask import mask_identity_gradients
from stages.models.linf.lp_weight_decay import decay_
from stages.models.linf.network import DistanceNetwork
from stages.train.config import DistributedSettings, OptimiserSettings
from stages.train.fused_adam import FusedAdam
from stages.train.losses import SMALLEST_SCALE, Objective, StepOutput
from stages.train.schedule import StepValues
from stages.train.zero_state import MOMENTS, ReplicatedState, StateAccess, Zero3State, Zero12State

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
        mask_identity_gradients(objective.network)
        self._engine, self._held = _start_deepspeed(
            self.objective, self._optimiser, settings, distributed, ranks
        )
        self.gradient_norm: float | None = None
        """Euclidean norm of the newest gradient that was measured; None: none was yet."""
        self._begin_moments()

    def step(
        self, images: Tensor, labels: Tensor, moment: StepValues, mean_count: float
    ) -> StepOutput:
        """Forward, backward, all-reduce, decay, Adam.

        The gradient is the mean over the global batch; the decay is decoupled, taken from the
        weights before Adam moves them.

        Args:
            images: this rank's share, normalised (B, C, H, W).
            labels: int64 (B,).
            moment: p, radius, learning rates, ... of this step.
            mean_count: images of the global batch divided by the ranks; where it is not B, the
                ranks' shares are not equal.

        Returns:
            Loss and number right of this rank's share.
        """
        self._set_learning_rates(moment)
        outcome: StepOutput = self._engine(images, labels, moment, mean_count)
        self._engine.backward(outcome.loss)
        if isinstance(self._optimiser, FusedAdam):
            self._optimiser.set_norm(moment.p)
        else:
            amount = moment.learning_rate * self._decay
            decay_(self.objective.network, moment.p, amount, self._held)
        is_measured = self._engine.global_steps % NORM_STEPS == 0
        whole = self._whole_gradient() if is_measured else []
        norm = torch.nn.utils.get_total_norm(whole) if whole else None
        self._engine.step()
        if is_measured:
            self._keep_norm(norm)
        self._keep_scale_positive()
        return StepOutput(outcome.loss.detach(), outcome.num_correct)

    def state(self) -> dict[str, Tensor]:
        """All tensors that training goes on from: weights, running means, scale, Adam's moments.

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
                "the checkpoint holds another network's tensors; remove the stage's working folder "
                "to start afresh"
            )
        state = {name: tensor.to(self.device) for name, tensor in state.items()}
        for name, buffer in self.objective.named_buffers():
            buffer.copy_(state[f"{OBJECTIVE}{name}"])
        for name, parameter in self.objective.named_parameters():
            self._held.set_weight(parameter, state[f"{OBJECTIVE}{name}"])
            for moment in MOMENTS:
                self._held.set_moment(parameter, moment, state[f"adam.{moment}.{name}"])
        for adam in self._optimiser.state.values():
            adam["step"].copy_(state["adam.step"])

    def whole_network(self, state: dict[str, Tensor]) -> DistanceNetwork:
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
    def _keep_scale_positive(self) -> None:
        """Lift the logit scale to its floor where a step took it below."""
        scale = self.objective.logit_scale
        if scale is not None:
            self._held.set_weight(scale, self._held.weight(scale).clamp(min=SMALLEST_SCALE))

    def _whole_gradient(self) -> list[Tensor]:
        """The gradients of all parameters; none where ZeRO has cut them up."""
        if not isinstance(self._held, ReplicatedState):
            return []
        gradients = (parameter.grad for parameter in self.objective.parameters())
        return [gradient for gradient in gradients if gradient is not None]

    def _keep_norm(self, norm: Tensor | None) -> None:
        """Keep the norm of the gradient; ZeRO computes it itself, in its step."""
        found = self._engine.get_global_grad_norm() if norm is None else norm
        self.gradient_norm = None if found is None else float(found)

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, buffer in self.objective.named_buffers():
            yield f"{OBJECTIVE}{name}", buffer
        for name, parameter in self.objective.named_parameters():
            yield f"{OBJECTIVE}{name}", self._held.weight(parameter)
            for moment in MOMENTS:
                yield f"adam.{moment}.{name}", self._held.moment(parameter, moment)
        yield "adam.step", next(iter(self._optimiser.state.values()))["step"]

    def _begin_moments(self) -> None:
        """Adam makes its moments at its first step; a restored run needs them before.

        So does DeepSpeed's ZeRO 1 and 2: it looks for all groups' moments after the first group's
        first step, and never finds those of the second.
        """
        if isinstance(self._held, Zero3State):
            stepped = self._engine.optimizer.fp32_partitioned_groups_flat
        else:
            stepped = [one for group in self._optimiser.param_groups for one in group["params"]]
        for tensor in stepped:
            self._optimiser.state[tensor] = {
                "step": torch.zeros((), dtype=torch.float32, device=tensor.device),
                **{moment: torch.zeros_like(tensor) for moment in MOMENTS},
            }
        if isinstance(self._held, Zero12State):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _set_learning_rates(self, moment: StepValues) -> None:
        for group in self._optimiser.param_groups:
            is_scale = group["is_scale"]
            group["lr"] = moment.scale_learning_rate if is_scale else moment.learning_rate


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
    """Adam, fused; the logit scale has a group of its own for its learning rate."""
    network = list(objective.network.parameters())
    groups: list[dict[str, Any]] = [{"params": network, "is_scale": False}]
    if objective.logit_scale is not None:
        groups.append({"params": [objective.logit_scale], "is_scale": True})
    return torch.optim.Adam(groups, betas=settings.betas, eps=settings.adam_eps, fused=True)


def _start_deepspeed(
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    settings: OptimiserSettings,
    distributed: DistributedSettings,
    ranks: Ranks,
) -> tuple[Any, StateAccess]:
    stage = distributed.zero_stage
    config = {
        # DeepSpeed counts with these and does nothing else; our batches may differ by an image.
        "train_micro_batch_size_per_gpu": 1,
        "train_batch_size": ranks.world_size,
        # Several micro-batches a step would be centred one by one: another network.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,  # DeepSpeed's default clips at 1
        "communication_data_type": {"float32": "fp32", "bfloat16": "bf16"}[
            settings.gradient_communication
        ],
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": distributed.overlap,
            "reduce_bucket_size": distributed.bucket_elements,
            "allgather_bucket_size": distributed.bucket_elements,
            "stage3_prefetch_bucket_size": distributed.bucket_elements,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    deepspeed = _import_deepspeed(ranks)
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimiser, config=config)
    if stage == 0:
        # One rank has nothing to reduce; DeepSpeed would still flatten and copy all gradients.
        engine.enable_backward_allreduce = ranks.world_size > 1
        return engine, ReplicatedState(optimiser)
    sharing = Zero3State if stage == 3 else Zero12State
    return engine, sharing(deepspeed.utils)


def _import_deepspeed(ranks: Ranks) -> Any:
    """Import DeepSpeed (a second or more, so only once training starts) and tame it."""
    # DeepSpeed 0.19 calls collectives by names that torch 2.14 has moved.
    moved = r"`torch\.distributed\.\w+` is deprecated"
    warnings.filterwarnings("ignore", moved, FutureWarning)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))
    import deepspeed  # noqa: PLC0415  must see DS_ACCELERATOR, and costs too much for importers
    import deepspeed.ops  # noqa: PLC0415

    # On a CPU DeepSpeed would compile a shared-memory all-reduce at its first start: half a minute,
    # and a compiler. Only its inference code calls that operator, so it is declared unavailable.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False
    return deepspeed
