"""A job script learns whether a stage has got further, from the files that it has finished."""

import functools

import pytest

from pipeline.cluster.job_state import job_state_of


@pytest.fixture
def state(desk):
    desk.write_act("resume")
    return lambda: job_state_of(desk.load(), desk.run_dir, ["act"])


def test_a_finished_file_is_progress_and_one_being_written_is_none(desk, state):
    fresh = state()
    desk.act("stage_error")
    assert state() == fresh  # the pipeline's own files do not count
    desk.act("resume")
    begun = state()
    assert begun != fresh
    working_dir = desk.run_dir / ".act.partial"
    for unfinished in (".b.txt.tmp", "checkpoints/.step-2.partial/state"):
        (working_dir / unfinished).parent.mkdir(parents=True, exist_ok=True)
        (working_dir / unfinished).touch()
    for finished in ("deep/b.txt", "checkpoints/step-2/state"):
        before = state()
        (working_dir / finished).parent.mkdir(parents=True, exist_ok=True)
        (working_dir / finished).touch()
        assert state() != before


def test_a_stage_that_is_up_to_date_is_done(desk, state):
    for _ in range(3):
        assert state() != "done"
        desk.act("resume")
    assert state() == "done"


def test_a_forced_job_that_fails_is_not_done_because_of_the_artifact_from_before(desk):
    desk.write_act("resume")
    for _ in range(3):
        desk.act("resume")
    forced = functools.partial(job_state_of, desk.load(), desk.run_dir, ["act"], is_forced=True)
    assert forced() == "done"
    assert desk.act("resume", "--force").returncode == 3
    assert forced() != "done"
