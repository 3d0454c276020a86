import subprocess
import sys

import pytest
from pydantic import ValidationError

RISING = {"kind": "rising_p", "rise_epoch": 1, "infinite_epoch": 2}
HYBRID = {"kind": "hybrid", "width": 8, "depth": 2, "hidden": 4}


def test_settings_survive_json(tiny) -> None:
    settings = tiny(network=HYBRID, loss={"kind": "ibp"}, radius={"kind": "smooth", "epochs": 2})
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rule": RISING | {"rise_epoch": 3}}, r"rise_epoch <= infinite_epoch"),
        ({"rule": RISING | {"infinite_epoch": 4}}, r"infinite_epoch <= epochs"),
        ({"rule": RISING | {"start": 100, "end": 10}}, r"p never falls"),
        ({"schedule": {"cosine_start_epoch": 3}}, r"must be before epochs"),
        ({"radius": {"kind": "linear", "epochs": 1}}, r"divides by the radius"),
        (
            {"network": HYBRID},
            r"loss hinge is for a network whose logits are 1-Lipschitz.*a hybrid takes ibp",
        ),
        ({"norm": "l2"}, r"certified in linf balls"),
        ({"eps_train": "0/1"}, r"eps_train must be positive"),
        ({"eps_train": 0.1}, r"rounded in binary"),
        ({"loss": {"kind": "mixture", "cross_entropy_end": 0}}, r"both are 0 or neither"),
        ({"rule": RISING | {"end": 2000}}, r"less than or equal to 1000"),
        ({"rule": RISING | {"start": 1}}, r"greater than or equal to 2"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tiny, changes, message) -> None:
    with pytest.raises(ValidationError, match=message):
        tiny(**changes)


def test_settings_are_read_without_torch() -> None:
    code = "import sys, stages.train.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_how_training_is_spread_decides_nothing(tiny) -> None:
    names = type(tiny()).runtime_only
    assert {"distributed", "loader", "shards", "num_threads", "checkpoint"} == set(names)
    assert set(names) <= type(tiny()).model_fields.keys()
