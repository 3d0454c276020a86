"""Train a network: data, network, engine, loop, save."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import StoppedOnRequest
from pipeline.execution.context import Context
from stages.data.augment import augment
from stages.data.batches import Batch, TrainBatches
from stages.data.distributed import join_ranks, leave_ranks, lost_ranks_reported
from stages.models.family import Family, family_of
from stages.models.network_file import save_network
from stages.models.validation import as_certified, evaluate, finalise
from stages.train.checkpoint import (
    Checkpoint,
    keep_newest_and_best,
    load_newest,
    name_best,
    save_checkpoint,
)
from stages.train.config import Settings
from stages.train.data import TrainingData, open_data
from stages.train.engine import Engine
from stages.train.history_logger import BEST, TOTALS, HistoryLogger
from stages.train.objective import build_objective
from stages.train.schedule import Schedule
from stages.train.stop_consensus import StopConsensus


def run(context: Context, settings: Settings) -> None:
    """Train on the split `train` of the input `data` and leave the network in the output folder.

    Writes network.safetensors, network.json, history.jsonl and checkpoints/. Killed at any moment
    and started again, it goes on from the newest checkpoint and, on one machine with the same
    number of ranks, ends with the same network.

    Raises:
        UserError: the ranks cannot share a batch equally, or a batch exceeds the split.
        StageError: the data is damaged, the disk is full, the loss is not finite, or another rank
            is gone.
        StoppedOnRequest: asked to stop; all ranks did after the same step, with a checkpoint.
    """
    with lost_ranks_reported(context.ranks):
        device = join_ranks(context.ranks, settings.distributed.timeout_s)
        _run(context, settings, device)
        leave_ranks()


def _run(context: Context, settings: Settings, device: torch.device) -> None:
    data = open_data(context.inputs["data"], settings, context.ranks, device)

    torch.manual_seed(settings.seed)
    eps_input = data.normalisation.eps_input(settings.eps_train)
    shape, num_classes = data.manifest.image_shape, len(data.manifest.classes)
    objective = build_objective(settings, shape, num_classes, eps_input)
    family = family_of(settings.network)

    engine = Engine(objective, settings.optimiser, settings.distributed, context.ranks)
    schedule = Schedule(settings, data.batches.epoch_batches.steps, objective.rule, objective.loss)
    history = HistoryLogger(context, settings, schedule, device)

    training = _Training(context, settings, family, data, engine, schedule, history)
    with context.stop.watched():
        _train(training, first_step=_resume(training))

    network = engine.whole_network(engine.state())
    finalise(family, network, data.normalisation, data.all_in_order)
    _validate(training, network, schedule.num_steps)
    if context.ranks.is_first:
        name_best(context.output_dir, history.best_step)
        _save_network(training, network)
        keep_newest_and_best(context.output_dir)


@dataclass(frozen=True)
class _Training:
    """What `run` has put together."""

    context: Context
    settings: Settings
    family: Family
    data: TrainingData
    engine: Engine
    schedule: Schedule
    history: HistoryLogger


def _train(training: _Training, first_step: int) -> None:
    """All steps from `first_step` on, validations and checkpoints at their times."""
    settings, schedule, history = training.settings, training.schedule, training.history
    batches = training.data.batches
    consensus = StopConsensus(training.context.stop)
    training.engine.objective.train()
    with training.context.track("training", schedule.num_steps, "steps") as progress:
        progress.start_at(first_step)
        steps = _steps(batches, first_step, schedule.num_steps, training.engine.device)
        for step, epoch, batch in history.meters.timed(steps):
            values = schedule.at(step)
            images = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            inputs = training.data.normalisation.apply(images)
            mean_count = batches.mean_count(step % batches.epoch_batches.steps)
            output = training.engine.step(inputs, batch.labels, values, mean_count)
            history.record_step(step, values, output, len(batch), mean_count)
            history.meters.show_gradient_norm(training.engine.gradient_norm)
            is_saved = _validate_and_checkpoint(training, step + 1)
            progress.advance(1, history.note)
            if consensus.is_agreed() and step + 1 < schedule.num_steps:
                _stop(training, step + 1, is_saved)
    consensus.settle()


def _validate_and_checkpoint(training: _Training, num_done: int) -> bool:
    """Validate and checkpoint, if it is time, after `num_done` steps; True with a checkpoint."""
    settings, schedule, history = training.settings, training.schedule, training.history
    is_last = num_done == schedule.num_steps
    is_validation_due = schedule.is_multiple(num_done, settings.validation.every_epochs)
    is_checkpoint_due = schedule.is_multiple(num_done, settings.checkpoint.every_epochs)
    if not (is_validation_due or is_checkpoint_due or is_last):
        return False
    history.throughput.stop()
    state = training.engine.state()
    history.settle(num_done, state)
    if is_validation_due and not is_last:
        data, network = training.data, training.engine.whole_network(state)
        with as_certified(training.family, network, data.normalisation, data.some_in_order):
            _validate(training, network, num_done)
    is_saved = is_checkpoint_due or is_last or history.best_step == num_done
    if is_saved:
        _save(training, num_done, state)
    history.throughput.go()
    return is_saved


def _stop(training: _Training, num_done: int, is_saved: bool) -> None:
    """Write a checkpoint and stop; every rank comes here after the same step."""
    if not is_saved:
        state = training.engine.state()
        training.history.settle(num_done, state)
        _save(training, num_done, state)
    leave_ranks()
    raise StoppedOnRequest(f"a checkpoint holds all {num_done:,} steps done")


def _validate(training: _Training, network: Any, num_done: int) -> None:
    """Write a history line for a network as it would be handed on."""
    data, eps = training.data, training.settings.eps
    counts = evaluate(training.family, network, data.normalisation, data.validation, eps)
    training.history.record_validation(num_done, counts)


def _steps(
    batches: TrainBatches, first_step: int, num_steps: int, device: torch.device
) -> Iterator[tuple[int, int, Batch]]:
    """Step, epoch and batch, on the device, of every step from `first_step` on."""
    step = first_step
    while step < num_steps:
        epoch, start = divmod(step, batches.epoch_batches.steps)
        for batch in batches.epoch(epoch, start):
            yield step, epoch, batch.to(device)
            step += 1


def _resume(training: _Training) -> int:
    """Restore the newest sound checkpoint; returns how many steps are done."""
    found = load_newest(training.context.output_dir)
    for message in found.damaged:
        training.context.say(f"{message}; passed over for the one before")
    if found.checkpoint is None:
        training.history.resume(0, {})
        return 0
    step, state = found.checkpoint.step, dict(found.checkpoint.state)
    training.history.resume(step, {name: state.pop(name) for name in (TOTALS, BEST)})
    training.engine.load_state(state)
    if training.context.ranks.is_first:
        name_best(training.context.output_dir, training.history.best_step)
    training.context.say(f"going on from the checkpoint after step {step:,}")
    return step


def _save(training: _Training, num_done: int, state: dict[str, Tensor]) -> None:
    if training.context.ranks.is_first:
        state = {**state, **training.history.state()}
        keep = training.settings.checkpoint.keep
        with training.history.meters.saving():
            save_checkpoint(training.context.output_dir, Checkpoint(num_done, state), keep)
            if training.history.best_step == num_done:
                name_best(training.context.output_dir, num_done)


def _save_network(training: _Training, network: Any) -> None:
    manifest = training.data.manifest
    save_network(
        training.context.output_dir,
        network,
        training.settings.network,
        dataset=manifest.dataset,
        image_shape=manifest.image_shape,
        classes=manifest.classes,
        normalisation=training.data.normalisation,
    )
