"""DeepSpeed, behind one door: what starts it, steps it, and reads or restores its state.

Nothing else imports DeepSpeed. Here it needs no compiler, no MPI and no free port for a lone rank.
"""

import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.data.batches import local_batch_size
from stages.data.processes import join_ranks
from stages.train.config import OptimiserSettings
from stages.train.decay import decay_
from stages.train.losses import Objective, Outcome
from stages.train.schedules import Moment

ADAM_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Engine:
    """An objective under training: one `step` is one global batch over all ranks.

    Args:
        objective: float32, the same weights on every rank.
        settings: of the optimiser.
        global_batch: images a step over all ranks together.
        ranks: this process among the others; `join_ranks` comes first.

    Raises:
        UserError: the ranks cannot share a global batch equally.
    """

    def __init__(
        self, objective: Objective, settings: OptimiserSettings, global_batch: int, ranks: Ranks
    ) -> None:
        self._decay = settings.decay
        self.device = join_ranks(ranks)
        self.objective = objective.to(self.device)
        self._optimiser = _adam(self.objective, settings)
        self._engine = _start_deepspeed(self.objective, self._optimiser, global_batch, ranks)

    def step(self, images: Tensor, labels: Tensor, moment: Moment) -> Outcome:
        """Forward, backward, all-reduce, decay, Adam.

        The gradient is the mean over the global batch; the decay is decoupled, taken from the
        weights before Adam moves them.

        Args:
            images: this rank's share, normalised (B, C, H, W).
            labels: int64 (B,).
            moment: p, radius, learning rates, ... of this step.

        Returns:
            Loss and number right of this rank's share.
        """
        self._set_learning_rates(moment)
        outcome: Outcome = self._engine(images, labels, moment)
        self._engine.backward(outcome.loss)
        decay_(self.objective.network, moment.p, moment.learning_rate * self._decay)
        self._engine.step()
        self.objective.keep_scale_positive()
        return Outcome(outcome.loss.detach(), outcome.num_correct)

    def state(self) -> dict[str, Tensor]:
        """All tensors that training goes on from: weights, running means, scale, Adam's moments.

        They are not copies; write them before the next step.
        """
        return dict(self._named_tensors())

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Set every tensor of `state` again.

        Raises:
            StageError: names or shapes do not fit this objective.
        """
        self._begin_moments()
        own = self.state()
        fits = own.keys() == state.keys() and all(own[k].shape == state[k].shape for k in own)
        if not fits:
            raise StageError(
                "the checkpoint holds another network's tensors; remove the stage's working folder "
                "to start afresh"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[name])

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.objective.state_dict().items():
            yield f"objective.{name}", tensor
        for name, parameter in self.objective.named_parameters():
            for moment in ADAM_MOMENTS:
                yield f"adam.{moment}.{name}", self._optimiser.state[parameter][moment]

    def _begin_moments(self) -> None:
        """Adam makes its moments at its first step; a restored run needs them before."""
        for group in self._optimiser.param_groups:
            for parameter in group["params"]:
                self._optimiser.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }

    def _set_learning_rates(self, moment: Moment) -> None:
        for group in self._optimiser.param_groups:
            is_scale = group["is_scale"]
            group["lr"] = moment.scale_learning_rate if is_scale else moment.learning_rate


def _adam(objective: Objective, settings: OptimiserSettings) -> torch.optim.Adam:
    """Adam, fused; the logit scale has a group of its own for its learning rate."""
    network = list(objective.network.parameters())
    groups: list[dict[str, Any]] = [{"params": network, "is_scale": False}]
    if objective.logit_scale is not None:
        groups.append({"params": [objective.logit_scale], "is_scale": True})
    return torch.optim.Adam(groups, betas=settings.betas, eps=settings.adam_eps, fused=True)


def _start_deepspeed(
    objective: Objective, optimiser: torch.optim.Adam, global_batch: int, ranks: Ranks
) -> Any:
    config = {
        "train_batch_size": global_batch,
        "train_micro_batch_size_per_gpu": local_batch_size(global_batch, ranks),
        # Several micro-batches a step would be centred one by one: another network.
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,  # DeepSpeed's default clips at 1
        "zero_optimization": {"stage": 0},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": None,
    }
    deepspeed = _import_deepspeed(ranks)
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimiser, config=config)
    # One rank has nothing to reduce; DeepSpeed would still flatten, scale and copy all gradients.
    engine.enable_backward_allreduce = ranks.world_size > 1
    return engine


def _import_deepspeed(ranks: Ranks) -> Any:
    """Import DeepSpeed (a second or more, so only once training starts) and tame it."""
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))
    import deepspeed  # noqa: PLC0415  must see DS_ACCELERATOR, and costs too much for importers
    import deepspeed.ops  # noqa: PLC0415

    # On a CPU DeepSpeed would compile a shared-memory all-reduce at its first start: half a minute,
    # and a compiler. Only its inference code calls that operator, so it is declared unavailable.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})["deepspeed_shm_comm"] = False
    return deepspeed
