from pathlib import Path

import pytest

from tests.reliability.campaign import SCENARIOS, Scenario, survive


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_run_killed_again_and_again_ends_with_the_same_network(
    tmp_path: Path, scenario: Scenario
) -> None:
    outcome = survive(scenario, num_kills=8, folder=tmp_path, seed=1)
    assert len(outcome.kills) == 8
    assert outcome.is_identical, outcome.kills
