"""Train a network: data, network, engine, loop, save."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pipeline.context import Context
from stages.data.augment import augment
from stages.data.batches import Batch, TrainBatches
from stages.models.network_file import save_network
from stages.models.networks import build_network
from stages.train.checkpoint import Checkpoint, keep_newest_only, load_newest, save_checkpoint
from stages.train.config import Settings
from stages.train.data import TrainingData, open_data
from stages.train.engine import Engine, join_ranks
from stages.train.journal import Journal
from stages.train.losses import Objective
from stages.train.schedules import Schedule
from stages.train.validation import at_infinity, evaluate, make_ready_for_infinity


def run(context: Context, settings: Settings) -> None:
    """Train on the split `train` of the input `data` and leave the network in the output folder.

    Writes network.safetensors, network.json, history.jsonl and checkpoints/. Killed at any moment
    and started again, it goes on from the newest checkpoint and, on one machine and rank count,
    ends with the same bytes.

    Raises:
        UserError: the ranks cannot share a batch equally.
        StageError: the data is damaged, the disk is full, or the loss is not finite.
    """
    device = join_ranks(context.ranks)
    data = open_data(context.inputs["data"], settings, context.ranks, device)
    manifest = data.manifest

    torch.manual_seed(settings.seed)
    network = build_network(settings.network, manifest.image_shape, len(manifest.classes))
    eps_input = data.normalisation.eps_input(settings.eps_train)
    objective = Objective(network, settings.loss, eps_input)

    engine = Engine(objective, settings.optimiser, settings.batch_size, context.ranks)
    schedule = Schedule(settings, data.batches.steps_per_epoch)
    journal = Journal(context, settings, schedule, objective, device)
    first_step = _resume(context, engine, journal)

    _train(context, settings, data, engine, schedule, journal, first_step)

    make_ready_for_infinity(network, data.normalisation, data.all_in_order)
    counts = evaluate(network, data.normalisation, data.validation, settings.eps)
    journal.record_validation(schedule.num_steps, counts)
    context.say(
        f"validation: clean {counts.clean_accuracy:.4f}, certified at {settings.eps} "
        f"{counts.certified_accuracy:.4f} of {counts.num_images:,} images"
    )
    if context.ranks.is_first:
        save_network(
            context.output_dir,
            network,
            settings.network,
            dataset=manifest.dataset,
            image_shape=manifest.image_shape,
            classes=manifest.classes,
            normalisation=data.normalisation,
        )
        keep_newest_only(context.output_dir)


def _train(
    context: Context,
    settings: Settings,
    data: TrainingData,
    engine: Engine,
    schedule: Schedule,
    journal: Journal,
    first_step: int,
) -> None:
    """All steps from `first_step` on, validations and checkpoints at their times."""
    steps_per_validation = settings.validation.every_epochs * schedule.steps_per_epoch
    steps_per_checkpoint = max(
        1, round(settings.checkpoint.every_epochs * schedule.steps_per_epoch)
    )
    network, normalisation = engine.objective.network, data.normalisation
    network.train()
    with context.track("training", schedule.num_steps, "steps") as progress:
        progress.start_at(first_step)
        for step, epoch, batch in _steps(data.batches, first_step, schedule.num_steps):
            moment = schedule.at(step)
            images = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            outcome = engine.step(normalisation.apply(images), batch.labels, moment)
            journal.record_step(step, moment, outcome, len(batch))

            num_done = step + 1
            is_last = num_done == schedule.num_steps
            is_validation_due = num_done % steps_per_validation == 0 and not is_last
            is_checkpoint_due = num_done % steps_per_checkpoint == 0 or is_last
            journal.stopwatch.stop()
            if is_validation_due:
                with at_infinity(network, normalisation, data.some_in_order):
                    counts = evaluate(network, normalisation, data.validation, settings.eps)
                journal.record_validation(num_done, counts)
            if is_checkpoint_due:
                _save(context, settings, engine, journal, num_done)
            journal.stopwatch.go()
            progress.advance(1, journal.note)


def _steps(
    batches: TrainBatches, first_step: int, num_steps: int
) -> Iterator[tuple[int, int, Batch]]:
    """Step, epoch and batch of every step from `first_step` on."""
    steps_per_epoch = batches.steps_per_epoch
    step = first_step
    while step < num_steps:
        epoch, start = divmod(step, steps_per_epoch)
        for batch in batches.epoch(epoch, start):
            yield step, epoch, batch
            step += 1


def _resume(context: Context, engine: Engine, journal: Journal) -> int:
    """Restore the newest sound checkpoint; returns how many steps are done."""
    found = load_newest(context.output_dir)
    for message in found.damaged:
        context.say(f"{message}; using the one before")
    step, tally = 0, None
    if found.checkpoint is not None:
        step, state = found.checkpoint.step, dict(found.checkpoint.state)
        tally = state.pop("tally")
        engine.load_state(state)
        context.say(f"going on from the checkpoint after step {step:,}")
    journal.resume(step, tally)
    return step


def _save(
    context: Context, settings: Settings, engine: Engine, journal: Journal, num_done: int
) -> None:
    """Checkpoint the state after `num_done` steps, unless a number in it is not finite."""
    journal.tally.collect()
    state: dict[str, Tensor] = {**engine.state(), "tally": journal.tally.sums}
    journal.check(num_done - 1, state)
    if context.ranks.is_first:
        save_checkpoint(context.output_dir, Checkpoint(num_done, state), settings.checkpoint.keep)
