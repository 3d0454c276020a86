import math

import pytest
import torch

from stages.train.losses.hinge.loss import hinge
from stages.train.losses.ibp.loss import ibp
from stages.train.losses.mixture.loss import mixture
from stages.train.objective import Objective, build_objective
from stages.train.schedule import Schedule

# Two images of true classes 0 and 1; with eps_input = 0.5, t = worst / (2 eps_input) = worst.
WORST = torch.tensor([[0.0, 2.0, -1.0], [0.4, 0.0, 0.6]])
LABELS = torch.tensor([0, 1])
LOGITS = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
CE_OF_LOGITS = (math.log(1 + 2 * math.exp(-1)) + math.log(3)) / 2
CE_OF_WORST = (
    math.log(1 + math.exp(2) + math.exp(-1)) + math.log(1 + math.exp(0.4) + math.exp(0.6))
) / 2


def test_hinge_by_hand() -> None:
    worst_class, all_classes = (2.0 + 0.6) / 2, (2.0 + 0.4 + 0.6) / 6
    assert hinge(WORST, 0.5, mix=1.0, count=2) == pytest.approx(worst_class)
    assert hinge(WORST, 0.5, mix=0.0, count=2) == pytest.approx(all_classes)
    assert hinge(WORST, 0.5, mix=0.75, count=2) == pytest.approx(
        0.75 * worst_class + 0.25 * all_classes
    )


def test_hinge_is_in_units_of_twice_the_radius() -> None:
    assert hinge(WORST, 0.25, mix=1.0, count=2) == pytest.approx(
        2 * hinge(WORST, 0.5, mix=1.0, count=2)
    )


def test_mixture_by_hand() -> None:
    clipped = (1.0 + 0.6) / 2
    assert mixture(WORST, 0.5, LOGITS, LABELS, weight=0.0, count=2) == pytest.approx(clipped)
    found = mixture(WORST, 0.5, LOGITS, LABELS, weight=0.1, count=2)
    assert found == pytest.approx(clipped + 0.1 * CE_OF_LOGITS)


def test_an_image_that_is_lost_gives_mixture_no_gradient() -> None:
    worst = WORST.clone().requires_grad_()
    mixture(worst, 0.5, LOGITS, LABELS, weight=0.0, count=2).backward()
    assert worst.grad is not None
    assert worst.grad.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.5]]


def test_ibp_by_hand() -> None:
    assert ibp(WORST, LOGITS, LABELS, worst_weight=0.0, count=2) == pytest.approx(CE_OF_LOGITS)
    assert ibp(WORST, LOGITS, LABELS, worst_weight=1.0, count=2) == pytest.approx(CE_OF_WORST)
    mixed = 0.25 * CE_OF_LOGITS + 0.75 * CE_OF_WORST
    assert ibp(WORST, LOGITS, LABELS, worst_weight=0.75, count=2) == pytest.approx(mixed)


def objective_for(settings, scale: float | None = None) -> Objective:
    torch.manual_seed(0)
    objective = build_objective(settings, (6, 6, 1), 3, eps_input=0.1)
    if scale is not None:
        objective.loss.logit_scale.data.fill_(scale)
    return objective


def first_values(settings, objective):
    return Schedule(settings, 10, objective.rule, objective.loss).at(0)


def test_the_scale_touches_the_cross_entropy_and_not_the_margins(tiny) -> None:
    settings = tiny(loss={"kind": "mixture"})
    images, labels = torch.randn(8, 1, 6, 6), torch.arange(8) % 3
    losses, cross_entropies = [], []
    for scale in (1.0, 3.0):
        objective = objective_for(settings, scale)
        values = first_values(settings, objective)
        losses.append(objective(images, labels, values, len(labels)).loss.detach())
        logits = objective.network(images, values.surrogate.p).detach()
        cross_entropies.append(torch.nn.functional.cross_entropy(scale * logits, labels))
    expected = settings.loss.cross_entropy_start * (cross_entropies[1] - cross_entropies[0])
    assert float(losses[1] - losses[0]) == pytest.approx(float(expected), abs=1e-6)


def test_only_mixture_has_a_scale(tiny) -> None:
    assert not list(objective_for(tiny()).loss.parameters())


def test_an_objective_counts_the_images_that_are_right(tiny) -> None:
    objective = objective_for(tiny())
    images = torch.randn(30, 1, 6, 6)
    logits = objective.network(images, 8.0)
    labels = logits.argmax(1)
    labels[:7] = (labels[:7] + 1) % 3
    values = first_values(tiny(), objective)
    assert objective(images, labels, values, len(labels)).num_correct == 23


def test_unequal_shares_make_the_mean_over_the_whole_batch() -> None:
    whole = ibp(WORST, LOGITS, LABELS, worst_weight=0.5, count=2)
    shares = [ibp(WORST[i], LOGITS[i], LABELS[i], 0.5, count=2 / 3) for i in ([0], [1], [])]
    assert sum(shares) / 3 == pytest.approx(whole)
