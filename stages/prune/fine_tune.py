"""Training of the edges that are left."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pipeline.monitor.progress import Progress
from stages.data.augment import augment
from stages.data.batches import ResidentBatches
from stages.models.images import Normalisation
from stages.models.pruning import Pruner
from stages.prune.config import FineTuneSettings


def fine_tune(
    pruner: Pruner,
    network: nn.Module,
    normalisation: Normalisation,
    batches: ResidentBatches,
    settings: FineTuneSettings,
    progress: Progress,
) -> None:
    """Train the weights of the edges and the bias; which edges there are stays.

    The loss is the hinge of arXiv:2102.05363 with the whole weight on the worst class. It has
    to be finished as for certification afterwards.

    Args:
        pruner: that made the network.
        network: trained in place, the same on every rank; left in training mode.
        normalisation: what it expects.
        batches: this rank's share of the training images.
        settings: epochs, learning rate, radius.
        progress: is told of every step.
    """
    eps_input = normalisation.eps_input(settings.eps_train)
    optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.9, 0.99))
    num_steps = settings.epochs * batches.epoch_batches.steps
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, num_steps)
    network.train()
    for epoch in range(settings.epochs):
        for step, batch in enumerate(batches.epoch(epoch)):
            images = augment(batch.images, batch.indices, settings.seed, epoch, settings.augment)
            inputs = normalisation.apply(images)
            worst = pruner.worst_case(network, inputs, batch.labels, eps_input).worst
            loss = (worst.amax(1) / (2 * eps_input)).sum() / batches.mean_count(step)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            _average_gradients([parameter.grad for parameter in network.parameters()])
            optimiser.step()
            cosine.step()
            progress.advance(1)


def _average_gradients(gradients: list[Tensor | None]) -> None:
    """The gradient of the mean over the batches of all ranks."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        for gradient in gradients:
            assert gradient is not None
            dist.all_reduce(gradient)
            gradient.div_(dist.get_world_size())
