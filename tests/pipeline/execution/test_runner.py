"""Which stages run, what is kept when one fails, and how to go on."""

import json
import os
import signal
import time

import pytest


def stages_run(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines() if " done in " in line]


def test_a_second_run_finds_everything_up_to_date(desk):
    desk.write(desk.PAIR)
    first = desk.run()
    assert stages_run(first) == ["make", "join"]
    assert first.splitlines()[-1].split() == ["join", "open", "runs/toy/join/index.html"]
    start = time.monotonic()
    second = desk.run()
    assert time.monotonic() - start < 2
    assert second.splitlines()[:2] == ["make       up to date", "join       up to date"]


def test_a_changed_setting_runs_that_stage_and_those_behind_it(desk):
    desk.write(desk.PAIR)
    desk.run()
    assert stages_run(desk.run("--set", "stages.join.separator=/")) == ["join"]
    assert stages_run(desk.run("--set", "stages.make.count=2")) == ["make", "join"]


def test_equal_bytes_end_the_chain(desk):
    desk.write(desk.PAIR)
    desk.run()
    output = desk.run("--set", "stages.make.rate=2")
    assert stages_run(output) == ["make"]
    assert "join       up to date" in output


def test_force_runs_what_is_up_to_date(desk):
    desk.write(desk.PAIR)
    desk.run()
    assert stages_run(desk.run("--force", "--stage", "join")) == ["join"]
    assert stages_run(desk.run("--force")) == ["make", "join"]


def test_a_chosen_stage_needs_its_inputs(desk):
    desk.write(desk.PAIR)
    refused = desk.command("run", "x.yaml", "--stage", "join")
    assert refused.returncode == 2
    assert refused.stderr == (
        "error: join reads make, which is not up to date (never run); first run: "
        "python -m pipeline run x.yaml --stage make\n"
    )
    assert stages_run(desk.run("--stage", "make")) == ["make"]
    assert stages_run(desk.run("--stage", "join")) == ["join"]
    assert stages_run(desk.run("--stage", "make", "--stage", "join", "--force")) == ["make", "join"]


def test_a_failed_stage_leaves_the_earlier_ones_committed(desk):
    desk.write("name: toy\nstages:\n  make: {text: a}\n  act: {what: stage_error}\n")
    failed = desk.command("run", "x.yaml", "--ranks", "1")
    assert failed.returncode == 3
    assert stages_run(failed.stdout) == ["make"]
    assert failed.stderr == (
        "error: the loss is not finite at step 7\n"
        "stopped: act: it could not go on; the reason is above\n"
        "What it has done so far is kept in runs/toy/.act.partial, and so is every finished "
        "stage.\nGo on with: python -m pipeline run x.yaml --ranks 1\n"
    )
    assert desk.plan()["make"] == "up to date"


def test_the_working_folder_of_a_failed_try_is_kept_for_the_next(desk):
    marks = desk.run_dir / ".act.partial" / "marks.txt"
    assert desk.act("resume").returncode == 3
    assert marks.read_text() == "x"
    assert desk.plan()["act"] == "runs: never run; continues an earlier attempt"
    assert desk.act("resume").returncode == 3
    done = desk.act("resume")
    assert done.returncode == 0
    assert (desk.run_dir / "act" / "marks.txt").read_text() == "xxx"
    record = desk.record("act")
    assert record.num_attempts == 3
    assert record.seconds > (record.end - record.start).total_seconds()


def test_a_working_folder_of_other_work_is_removed(desk):
    desk.act("resume")
    desk.act("resume", "--set", "stages.act.label=other")
    assert (desk.run_dir / ".act.partial" / "marks.txt").read_text() == "x"


def test_a_working_folder_made_from_other_inputs_is_removed(desk):
    desk.write(
        "name: toy\nstages:\n  make: {text: a}\n  act: {what: resume, inputs: {data: make}}\n"
    )
    assert desk.command("run", "x.yaml").returncode == 3
    assert desk.command("run", "x.yaml", "--set", "stages.make.text=b").returncode == 3
    assert (desk.run_dir / ".act.partial" / "marks.txt").read_text() == "x"


def test_force_begins_anew_and_the_advice_to_go_on_does_not(desk):
    desk.act("resume")
    failed = desk.act("resume", "--force")
    assert (desk.run_dir / ".act.partial" / "marks.txt").read_text() == "x"
    assert failed.stderr.endswith("Go on with: python -m pipeline run x.yaml\n")


def test_a_stage_that_writes_nothing_has_failed(desk):
    done = desk.act("exit_quietly")
    assert done.returncode == 3
    assert "act: every rank returned, but no file was written" in done.stderr


@pytest.fixture
def hangup_is_heeded():
    """A suite that runs under nohup ignores SIGHUP, and so would the processes that it starts."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup_is_heeded")
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGHUP, 130), (signal.SIGTERM, 0), (signal.SIGUSR1, 0)],
)
def test_a_run_asked_to_stop_lets_its_ranks_tidy_up_and_says_how_to_go_on(
    desk, wait_for, number, code
):
    desk.write_act("tidy_up_on_stop")
    process = desk.start("run", "x.yaml", "--ranks", "2")
    partial = desk.run_dir / ".act.partial"
    wait_for(lambda: all((partial / f"begun-{rank}.txt").exists() for rank in range(2)))
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == code
    assert errors == (
        f"stopped: act: asked to stop by {number.name}\n"
        "What it has done so far is kept in runs/toy/.act.partial, and so is every finished "
        "stage.\nGo on with: python -m pipeline run x.yaml --ranks 2\n"
    )
    assert (partial / "tidied.txt").exists()
    assert json.loads((partial / "STOPPED").read_text())["signal"] == "SIGUSR1"
    assert json.loads((partial / "attempt.json").read_text())["seconds_before"] > 0


def test_a_rank_asked_to_stop_stops_the_run(desk, wait_for):
    desk.write_act("stop_where_asked")
    process = desk.start("run", "x.yaml", "--ranks", "2")
    partial = desk.run_dir / ".act.partial"
    wait_for(lambda: all((partial / f"begun-{rank}.txt").exists() for rank in range(2)))
    for rank in range(2):
        os.kill(int((partial / f"begun-{rank}.txt").read_text()), signal.SIGUSR1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert errors.startswith("stopped: act: its ranks were asked to stop\n")
    assert errors.endswith("Go on with: python -m pipeline run x.yaml --ranks 2\n")
    marker = json.loads((partial / "STOPPED").read_text())
    assert (marker["signal"], marker["reason"]) == ("SIGUSR1", "all is saved")
    assert not (partial / "DONE").exists()


def test_a_finished_stage_is_marked_done_and_the_marker_is_no_output(desk):
    desk.act("succeed")
    assert (desk.run_dir / "act" / "DONE").exists()
    assert set(desk.record("act").outputs) == {"done.txt"}


def test_a_new_try_takes_the_marker_away(desk):
    desk.act("resume")
    (desk.run_dir / ".act.partial" / "STOPPED").write_text("{}")
    done = desk.act("resume")
    assert done.returncode == 3
    assert not (desk.run_dir / ".act.partial" / "STOPPED").exists()


def test_a_second_ctrl_c_does_not_wait_for_deaf_ranks(desk, wait_for):
    desk.write_act("sleep_deaf")
    process = desk.start("run", "x.yaml")
    wait_for((desk.run_dir / ".act.partial" / "begun-0.txt").exists)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 130
    assert errors == "stopped: interrupted; go on with: python -m pipeline run x.yaml\n"


def test_a_place_that_cannot_be_written_is_named(desk):
    desk.write(desk.PAIR)
    done = desk.command("run", "x.yaml", "--runs", "x.yaml")
    assert done.returncode == 2
    assert done.stderr == (
        "error: x.yaml/toy: this folder cannot be made (Not a directory); "
        "choose another with --runs\n"
    )
