from dataclasses import dataclass

import pytest

from pipeline.errors import UserError
from stages.models.validation import Counts
from stages.prune.search import Limits, largest_sparsity, shares_to_try


@dataclass(frozen=True)
class Judged:
    """A trial as far as the search looks at it."""

    sparsity: float
    counts: Counts


def judged(share: float, last_good: float = 0.9, certified: int = 70) -> Judged:
    return Judged(share, Counts(100, 80 if share <= last_good else 60, certified))


def curve(*shares: float, **changes: float):
    return [(share, judged(share, **changes)) for share in shares]


LIMITS = Limits(num_correct=79, num_certified=70)


def test_limits_allow_exactly_the_tolerance() -> None:
    limits = Limits.within(0.001, Counts(5000, 4000, 3000))
    assert limits == Limits(3995, 2995)
    assert limits.hold(Counts(5000, 3995, 2995))
    assert not limits.hold(Counts(5000, 3994, 2995))
    assert not limits.hold(Counts(5000, 3995, 2994))


def test_shares_start_where_edges_are_used_and_keep_a_tenth_of_those_at_last() -> None:
    shares = shares_to_try(0.96, 5)
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(0.96)
    assert shares[-1] == pytest.approx(1 - 0.004)


def test_the_gap_after_the_last_good_point_is_halved() -> None:
    found = largest_sparsity(judged, curve(0.5, 0.8, 0.96), LIMITS, 6)
    assert 0.9 - 0.16 / 64 < found.sparsity <= 0.9


def test_without_refinement_it_is_the_last_good_point() -> None:
    assert largest_sparsity(judged, curve(0.5, 0.8, 0.96), LIMITS, 0).sparsity == 0.8


def test_if_all_points_are_good_the_last_is_taken() -> None:
    assert largest_sparsity(judged, curve(0.5, 0.8), LIMITS, 6).sparsity == 0.8


def test_both_accuracies_have_to_hold() -> None:
    with pytest.raises(UserError, match=r"50.00% of edges .* costs more than the tolerance"):
        largest_sparsity(judged, curve(0.5, 0.8, certified=69), LIMITS, 6)
