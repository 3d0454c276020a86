"""Train a network: data, network, engine, loop, save."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import StoppedOnRequest
from pipeline.execution.context import Context
from stages.data.augment import augment
from stages.data.batches import Batch, TrainBatches
from stages.data.distributed import join_ranks, leave_ranks, lost_ranks_reported
from stages.models.linf.network import DistanceNetwork, build_network
from stages.models.network_file import save_network
from stages.models.validation import at_infinity, evaluate, make_ready_for_infinity
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
from stages.train.history_logger import BEST, TALLY, HistoryLogger
from stages.train.losses import Objective
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
    network = build_network(settings.network, data.manifest.image_shape, len(data.manifest.classes))
    eps_input = data.normalisation.eps_input(settings.eps_train)
    objective = Objective(network, settings.loss, eps_input)

    engine = Engine(objective, settings.optimiser, settings.distributed, context.ranks)
    schedule = Schedule(settings, data.batches.cut.steps)
    history = HistoryLogger(context, settings, schedule, objective, device)

    parts = _Parts(context, settings, data, engine, schedule, history)
    with context.stop.watched():
        _train(parts, first_step=_resume(parts))

    network = engine.whole_network(engine.state())
    make_ready_for_infinity(network, data.normalisation, data.all_in_order)
    _validate(parts, network, schedule.num_steps)
    if context.ranks.is_first:
        name_best(context.output_dir, history.best_step)
        _save_network(parts, network)
        keep_newest_and_best(context.output_dir)


@dataclass(frozen=True)
class _Parts:
    """What `run` has put together."""

    context: Context
    settings: Settings
    data: TrainingData
    engine: Engine
    schedule: Schedule
    history: HistoryLogger


def _train(parts: _Parts, first_step: int) -> None:
    """All steps from `first_step` on, validations and checkpoints at their times."""
    settings, schedule, history = parts.settings, parts.schedule, parts.history
    batches = parts.data.batches
    consensus = StopConsensus(parts.context.stop)
    parts.engine.objective.train()
    with parts.context.track("training", schedule.num_steps, "steps") as progress:
        progress.start_at(first_step)
        steps = _steps(batches, first_step, schedule.num_steps, parts.engine.device)
        for step, epoch, batch in history.meters.timed(steps):
            moment = schedule.at(step)
            images = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            inputs = parts.data.normalisation.apply(images)
            mean_count = batches.mean_count(step % batches.cut.steps)
            outcome = parts.engine.step(inputs, batch.labels, moment, mean_count)
            history.record_step(step, moment, outcome, len(batch), mean_count)
            history.meters.show_gradient_norm(parts.engine.gradient_norm)
            is_saved = _pause_where_due(parts, step + 1)
            progress.advance(1, history.note)
            if consensus.is_agreed() and step + 1 < schedule.num_steps:
                _stop(parts, step + 1, is_saved)
    consensus.settle()


def _pause_where_due(parts: _Parts, num_done: int) -> bool:
    """Validate and checkpoint, if it is time, after `num_done` steps; True with a checkpoint."""
    settings, schedule, history = parts.settings, parts.schedule, parts.history
    is_last = num_done == schedule.num_steps
    is_validation_due = schedule.is_multiple(num_done, settings.validation.every_epochs)
    is_checkpoint_due = schedule.is_multiple(num_done, settings.checkpoint.every_epochs)
    if not (is_validation_due or is_checkpoint_due or is_last):
        return False
    history.throughput.stop()
    state = parts.engine.state()
    history.settle(num_done, state)
    if is_validation_due and not is_last:
        data, network = parts.data, parts.engine.whole_network(state)
        with at_infinity(network, data.normalisation, data.some_in_order):
            _validate(parts, network, num_done)
    is_saved = is_checkpoint_due or is_last or history.best_step == num_done
    if is_saved:
        _save(parts, num_done, state)
    history.throughput.go()
    return is_saved


def _stop(parts: _Parts, num_done: int, is_saved: bool) -> None:
    """Checkpoint and part: every rank comes here after the same step."""
    if not is_saved:
        state = parts.engine.state()
        parts.history.settle(num_done, state)
        _save(parts, num_done, state)
    leave_ranks()
    raise StoppedOnRequest(f"a checkpoint holds all {num_done:,} steps done")


def _validate(parts: _Parts, network: DistanceNetwork, num_done: int) -> None:
    """A history line; the network is ready for p = infinity."""
    data = parts.data
    counts = evaluate(network, data.normalisation, data.validation, parts.settings.eps)
    parts.history.record_validation(num_done, counts)


def _steps(
    batches: TrainBatches, first_step: int, num_steps: int, device: torch.device
) -> Iterator[tuple[int, int, Batch]]:
    """Step, epoch and batch, on the device, of every step from `first_step` on."""
    step = first_step
    while step < num_steps:
        epoch, start = divmod(step, batches.cut.steps)
        for batch in batches.epoch(epoch, start):
            yield step, epoch, batch.to(device)
            step += 1


def _resume(parts: _Parts) -> int:
    """Restore the newest sound checkpoint; returns how many steps are done."""
    found = load_newest(parts.context.output_dir)
    for message in found.damaged:
        parts.context.say(f"{message}; passed over for the one before")
    if found.checkpoint is None:
        parts.history.resume(0, {})
        return 0
    step, state = found.checkpoint.step, dict(found.checkpoint.state)
    parts.history.resume(step, {name: state.pop(name) for name in (TALLY, BEST)})
    parts.engine.load_state(state)
    if parts.context.ranks.is_first:
        name_best(parts.context.output_dir, parts.history.best_step)
    parts.context.say(f"going on from the checkpoint after step {step:,}")
    return step


def _save(parts: _Parts, num_done: int, state: dict[str, Tensor]) -> None:
    if parts.context.ranks.is_first:
        state = {**state, **parts.history.state()}
        keep = parts.settings.checkpoint.keep
        with parts.history.meters.saving():
            save_checkpoint(parts.context.output_dir, Checkpoint(num_done, state), keep)
            if parts.history.best_step == num_done:
                name_best(parts.context.output_dir, num_done)


def _save_network(parts: _Parts, network: DistanceNetwork) -> None:
    manifest = parts.data.manifest
    save_network(
        parts.context.output_dir,
        network,
        parts.settings.network,
        dataset=manifest.dataset,
        image_shape=manifest.image_shape,
        classes=manifest.classes,
        normalisation=parts.data.normalisation,
    )
