import os

import pytest

from pipeline.errors import UserError
from pipeline.ranks import Ranks

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ({}, Ranks()),
        ({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Ranks(1, 4, 1, 4)),
        (
            {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Ranks(5, 8, 1, 4),
        ),
    ],
)
def test_ranks_are_read_from_the_environment(monkeypatch, values, ranks):
    _set(monkeypatch, values)
    assert Ranks.from_environment() == ranks


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RANK": "0"}, "not WORLD_SIZE, LOCAL_RANK"),
        ({"RANK": "x", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "RANK='x'; a whole number"),
        ({"RANK": "-1", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, "RANK='-1'; a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "RANK=2 of WORLD_SIZE=2"),
    ],
)
def test_an_environment_that_contradicts_itself_is_refused(monkeypatch, values, message):
    _set(monkeypatch, values)
    with pytest.raises(UserError, match=message):
        Ranks.from_environment()


def _set(monkeypatch, values):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def test_place_in_a_step_of_srun(monkeypatch):
    step = {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "4",
        "SLURM_STEP_NUM_TASKS": "5",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "2",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    }
    monkeypatch.setattr(os, "environ", step)
    assert Ranks.from_environment() == Ranks(4, 5, 0, 1)
    del step["SLURM_STEP_ID"]  # a batch script, or a shell of salloc, is no task
    assert Ranks.from_environment() == Ranks()
