"""Follows a training run: refuses a loss that is not finite, fills the display and the history."""

import time
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

from pipeline.errors import StageError
from pipeline.execution.context import Context
from stages.data.history import HISTORY_NAME, HistoryLine, append_history, cut_history, read_history
from stages.models.validation import Counts
from stages.train.checkpoint import newest_step
from stages.train.config import Settings
from stages.train.metrics import TrainMetrics
from stages.train.objective import StepOutput
from stages.train.running_totals import Throughput, TrainTotals
from stages.train.schedule import Schedule, StepValues

TOTALS, BEST = "totals", "best"
"""Names in a checkpoint of what a history goes on from."""
GPU_CHECK_STEPS = 50
"""On a GPU the loss is looked at this often only: each look waits for the device."""


class HistoryLogger:
    """Follows a run step by step and writes a history line a validation.

    Args:
        context: of the stage.
        settings: of the stage.
        schedule: of the run.
        device: where sums are kept.
    """

    def __init__(
        self,
        context: Context,
        settings: Settings,
        schedule: Schedule,
        device: torch.device,
    ) -> None:
        self._output_dir, self._is_first = context.output_dir, context.ranks.is_first
        self._settings, self._schedule = settings, schedule
        self._check_steps = GPU_CHECK_STEPS if device.type == "cuda" else 1
        self._start, self._seconds_before = time.monotonic(), 0.0
        self._loss, self._accuracies = "", ""
        self.meters = TrainMetrics(context.metrics, float(settings.eps_train))
        self._best = torch.tensor([0.0, -1.0], dtype=torch.float64)
        self.totals = TrainTotals(device)
        self.throughput = Throughput()

    @property
    def note(self) -> str:
        """What a progress display shows beside the number of steps."""
        return self._loss + self._accuracies

    @property
    def best_step(self) -> int:
        """After how many steps a validation certified most; 0 before the first validation."""
        return int(self._best[0])

    def state(self) -> dict[str, Tensor]:
        """What a resumed run goes on from: sums since the last validation, the best one so far."""
        return {TOTALS: self.totals.sums, BEST: self._best}

    def resume(self, step: int, state: dict[str, Tensor]) -> None:
        """Go on after `step` steps: history lines after them are dropped and will be redone.

        Args:
            step: 0 where nothing is done.
            state: what `state` gave then; nothing where nothing is done.
        """
        if state:
            self._best.copy_(state[BEST])
            if self._is_first:
                self.totals.sums.copy_(state[TOTALS])
        if self._is_first:
            # The line of the last step is written after the last checkpoint.
            cut_history(self._output_dir, min(step, self._schedule.num_steps - 1))
            has_history = (self._output_dir / HISTORY_NAME).exists()
            lines = read_history(self._output_dir) if has_history else ()
            self._seconds_before = lines[-1].seconds if lines else 0.0
        self.throughput.go()

    def record_step(
        self, step: int, values: StepValues, output: StepOutput, num_images: int, mean_count: float
    ) -> None:
        """Count one step, the number `step` from 0, of `num_images` on this rank.

        Raises:
            StageError: the loss is not finite (looked at each step, on a GPU each 50).
        """
        self.totals.add(output, num_images, mean_count)
        self.throughput.add(round(mean_count * dist.get_world_size()))
        self.meters.count_step(values, num_images)
        if step % self._check_steps == 0:
            self.meters.look_at(output)
            self._refuse_non_finite(step + 1, [self.totals.sums])
            self._loss = f"{_shown(values)}, loss {float(output.loss):.4f}"

    def settle(self, num_done: int, state: dict[str, Tensor]) -> None:
        """Before a validation or checkpoint: bring all ranks' sums together and look at everything.

        Args:
            num_done: steps done.
            state: tensors of the training state, the same on all ranks.

        Raises:
            StageError: a loss since the last validation, or an entry of `state`, is not finite.
        """
        self._refuse_non_finite(num_done, [self.totals.collect(), *state.values()])

    def record_validation(self, num_done: int, counts: Counts) -> None:
        """Write a history line for a validation after `num_done` steps, and start the sums anew."""
        if self._is_first:
            append_history(self._output_dir, self._line(num_done, counts))
        self.meters.record_validation(counts)
        if counts.certified_accuracy > self._best[1]:
            self._best = torch.tensor([num_done, counts.certified_accuracy], dtype=torch.float64)
        self.totals.sums.zero_()
        clean, certified = counts.clean_accuracy, counts.certified_accuracy
        self._accuracies = f", val clean {clean:.4f} certified {certified:.4f}"

    def _refuse_non_finite(self, num_done: int, tensors: Iterable[Tensor]) -> None:
        if all(tensor.isfinite().all() for tensor in tensors):
            return
        last = newest_step(self._output_dir)
        good = "no checkpoint yet" if last is None else f"last good checkpoint: after step {last}"
        raise StageError(
            f"the loss or a weight is not finite after step {num_done} "
            f"({_shown(self._schedule.at(num_done - 1))}); {good}, in {self._output_dir}; try a "
            "smaller optimiser.learning_rate, a slower rule or another seed"
        )

    def _line(self, num_done: int, counts: Counts) -> HistoryLine:
        schedule = self._schedule
        values = schedule.at(num_done - 1)
        return HistoryLine(
            step=num_done,
            epoch=num_done / schedule.steps_per_epoch,
            progress=num_done / schedule.num_steps,
            eps_train=float(self._settings.eps_train) * values.radius_share,
            learning_rate=values.learning_rate,
            extra={**values.columns, **schedule.loss.columns()},
            train_loss=self.totals.mean_loss,
            train_accuracy=self.totals.accuracy,
            eps=self._settings.eps,
            num_validation_images=counts.num_images,
            validation_clean_accuracy=counts.clean_accuracy,
            validation_certified_accuracy=counts.certified_accuracy,
            data_wait_share=self.throughput.share_of(self.meters.lap_of_waiting()),
            images_per_s=self.throughput.lap(),
            seconds=self._seconds_before + time.monotonic() - self._start,
        )


def _shown(values: StepValues) -> str:
    """What the family shows of a step: `p 8`."""
    return ", ".join(f"{name} {value:.4g}" for name, value in values.surrogate.columns.items())
