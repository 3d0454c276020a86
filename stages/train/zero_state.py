"""DeepSpeed: what starts it, and whole tensors of its state, wherever a ZeRO stage put their parts.

stage 0     every rank holds everything
stage 1, 2  every rank holds all weights; of master weights and moments it holds a range of elements
stage 3     every rank holds an equal range of every tensor, the last ones padded

What is set takes effect in the weights that the next forward pass uses and in the copy that the
optimiser steps. Only `weight` and `moment` may exchange data between ranks: all of them must ask.
Nothing else imports DeepSpeed; started here, it needs no compiler, no MPI and no free port.
"""

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.ranks import Ranks
from stages.train.config import DistributedSettings, OptimiserSettings

MOMENTS = ("exp_avg", "exp_avg_sq")


class TrainingState(ABC):
    """Weights and Adam's moments of a module under training.

    Args:
        module: what is trained.
        optimiser: of its parameters.
        engine: what `deepspeed.initialize` gave.
        api: `deepspeed.utils`.
    """

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, engine: Any, api: Any
    ) -> None:
        self._module, self._optimiser, self.engine, self._api = module, optimiser, engine, api
        # Adam makes its moments at its first step; a restored run needs them before.
        for tensor in self._stepped():
            optimiser.state[tensor] = {
                "step": torch.zeros((), dtype=torch.float32, device=tensor.device),
                **{name: torch.zeros_like(tensor) for name in MOMENTS},
            }

    @abstractmethod
    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter; it may be the live one."""

    @abstractmethod
    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set the whole parameter, the same on every rank."""

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """One of Adam's `MOMENTS` of a parameter, whole; it may be the live one."""
        moment: Tensor = self._api.safe_get_full_optimizer_state(parameter, name)
        return moment

    @abstractmethod
    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set one of Adam's moments, the same on every rank."""

    def step(self, is_measured: bool) -> float | None:
        """Let the optimiser step; returns the gradient's Euclidean norm if it is to be measured."""
        self.engine.step()
        norm = self.engine.get_global_grad_norm() if is_measured else None
        return None if norm is None else float(norm)

    def _stepped(self) -> Iterable[Tensor]:
        """The tensors that the optimiser steps."""
        return [one for group in self._optimiser.param_groups for one in group["params"]]


class ReplicatedState(TrainingState):
    """Stage 0."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The live parameter."""
        return parameter.data

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Copy into the live parameter."""
        if value.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(value)

    def moment(self, parameter: nn.Parameter, name: str) -> Tensor:
        """The live moment."""
        moment: Tensor = self._optimiser.state[parameter][name]
        return moment

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Copy into the live moment."""
        self._optimiser.state[parameter][name].copy_(value)

    def step(self, is_measured: bool) -> float | None:
        """See `TrainingState`; the norm is taken before, from the whole gradient."""
        norm = None
        if is_measured:
            gradients = [one.grad for one in self._module.parameters() if one.grad is not None]
            norm = torch.nn.utils.get_total_norm(gradients)
        self.engine.step()
        return None if norm is None else float(norm)


class Zero12State(TrainingState):
    """Stages 1 and 2."""

    def __init__(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, engine: Any, api: Any
    ) -> None:
        super().__init__(module, optimiser, engine, api)
        # DeepSpeed looks for all groups' moments after the first group's first step, and would
        # never find those of the second.
        engine.optimizer._lazy_init_hp_params_optimizer_state()

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """The live weights, which equal the master weights: both are float32."""
        return parameter.data

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set this rank's range of the master weights, and the live weights."""
        self._api.safe_set_full_fp32_param(parameter, value)
        if value.data_ptr() != parameter.data_ptr():
            parameter.data.copy_(value)

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set this rank's range."""
        self._api.safe_set_full_optimizer_state(parameter, value, name)


class Zero3State(TrainingState):
    """Stage 3."""

    def weight(self, parameter: nn.Parameter) -> Tensor:
        """Gathered from all ranks."""
        weight: Tensor = self._api.safe_get_full_fp32_param(parameter)
        return weight

    def set_weight(self, parameter: nn.Parameter, value: Tensor) -> None:
        """Set this rank's part of the master weights and of the weights."""
        part = _padded_part(parameter, value)
        self._api.safe_set_local_fp32_param(parameter, part)
        parameter.ds_tensor.data.copy_(part.view_as(parameter.ds_tensor))  # type: ignore[attr-defined]
        if parameter.shape == value.shape:  # small ones stay whole on every rank
            parameter.data.copy_(value)

    def set_moment(self, parameter: nn.Parameter, name: str, value: Tensor) -> None:
        """Set this rank's part."""
        part = _padded_part(parameter, value)
        self._api.safe_set_local_optimizer_state(parameter, part, name)

    def _stepped(self) -> Iterable[Tensor]:
        flat: Iterable[Tensor] = self.engine.optimizer.fp32_partitioned_groups_flat
        return flat


def start_deepspeed(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: OptimiserSettings,
    distributed: DistributedSettings,
    ranks: Ranks,
) -> TrainingState:
    """Wrap a module and its optimiser; `TrainingState.engine` is what runs them."""
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
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimiser, config=config)
    if stage == 0:
        # One rank has nothing to reduce; DeepSpeed would still flatten and copy all gradients.
        engine.enable_backward_allreduce = ranks.world_size > 1
    kinds = (ReplicatedState, Zero12State, Zero12State, Zero3State)
    return kinds[stage](module, optimiser, engine, deepspeed.utils)


def _padded_part(parameter: Any, value: Tensor) -> Tensor:
    """This rank's part of a tensor; DeepSpeed's own setter raises where the ranks do not divide it.

    Every rank's part has the same length, so the last ones reach past the end: zeros there.
    """
    length = parameter.ds_tensor.numel()
    padded = value.new_zeros(length * dist.get_world_size())
    padded[: value.numel()] = value.flatten()
    return padded.narrow(0, length * dist.get_rank(), length)


def _import_deepspeed(ranks: Ranks) -> Any:
    """Import DeepSpeed, which takes a second or more, and keep it from compiling or warning."""
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
