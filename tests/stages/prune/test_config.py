import pytest
from pydantic import ValidationError

from stages.prune.config import FineTuneSettings


def test_left_alone_the_sparsity_is_found(tools) -> None:
    settings = tools.settings_for()
    assert (settings.sparsity, settings.min_count, settings.fine_tune) == ("auto", None, None)


@pytest.mark.parametrize("sparsity", [1.0, -0.1, "most"])
def test_a_sparsity_is_a_share_below_1_or_auto(tools, sparsity) -> None:
    with pytest.raises(ValidationError):
        tools.settings_for(sparsity=sparsity)


def test_fine_tuning_needs_a_ball() -> None:
    with pytest.raises(ValidationError, match=r"eps_train is 0, but the loss divides by it"):
        FineTuneSettings(eps_train="0")
