"""Ranks: what they are told, and how their end becomes the run's."""

import os
import time

import pytest

from pipeline.execution import srun
from pipeline.execution.launch import Ended, rank_environment
from pipeline.store.provenance import num_cores


def test_each_rank_knows_its_place(desk, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    assert desk.act("show_surroundings", "--ranks", "2").returncode == 0
    threads = max(1, num_cores() // 2)
    for rank in range(2):
        assert (desk.run_dir / "act" / f"rank-{rank}.txt").read_text() == (
            f"RANK={rank} WORLD_SIZE=2 LOCAL_RANK={rank} LOCAL_WORLD_SIZE=2 "
            f"MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', threads)} "
            "OMP_WAIT_POLICY=PASSIVE"
        )
    assert desk.record("act").num_ranks == 2


def test_ranks_share_the_cores_unless_the_user_has_said_otherwise(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert "OMP_NUM_THREADS" not in rank_environment(0, 1, 1234)
    assert rank_environment(0, 64, 1234)["OMP_NUM_THREADS"] == str(max(1, num_cores() // 64))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in rank_environment(0, 2, 1234)


def test_waiting_threads_sleep_unless_the_user_wants_them_awake(desk, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert desk.act("show_surroundings").returncode == 0
    line = (desk.run_dir / "act" / "rank-0.txt").read_text()
    assert line.endswith("OMP_WAIT_POLICY=ACTIVE")


def test_a_stage_gets_no_more_ranks_than_it_can_use(desk):
    desk.write("name: toy\nstages:\n  make: {text: a}\n  join: {inputs: {data: make}}\n")
    desk.run("--ranks", "2")
    assert (desk.record("make").num_ranks, desk.record("join").num_ranks) == (2, 1)


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("user_error", 2, "error: data/nothing: no such folder; run make setup"),
        ("stage_error", 3, "error: the loss is not finite at step 7"),
        ("bug", 1, "ZeroDivisionError: a slip of ours"),
        ("exit_with_7", 3, "act: it ended with exit code 7"),
        ("disk_full", 3, "error: runs/toy/.act.partial: the disk is full; free some space"),
        ("read_forbidden", 2, "error: /data/secret: access is not permitted"),
    ],
)
def test_the_end_of_a_rank_is_the_end_of_the_run(desk, what, code, message):
    done = desk.act(what)
    assert done.returncode == code
    assert message in done.stderr
    assert ("Traceback" in done.stderr) == (what == "bug")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("die_beside_sleepers", "act: rank 1 was killed by SIGKILL (out of memory? see dmesg)"),
        ("fail_beside_sleepers", "act: rank 1 could not go on; the reason is above"),
    ],
)
def test_the_others_are_stopped_within_seconds_when_one_rank_dies(desk, what, message):
    start = time.monotonic()
    done = desk.act(what, "--ranks", "2")
    assert time.monotonic() - start < 8
    assert done.returncode == 3
    assert message in done.stderr
    asleep = int((desk.run_dir / ".act.partial" / "begun-0.txt").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(asleep, 0)


def test_a_lost_rank_gives_one_message(desk):
    done = desk.act("lose_a_rank", "--ranks", "3")
    assert done.returncode == 3
    assert done.stderr.startswith("stopped: act: rank 1 was killed by SIGKILL")
    assert "another rank" not in done.stderr


def test_a_lost_rank_is_told_of_where_no_launcher_knows_better(desk):
    done = desk.act("lose_a_rank")
    assert done.stderr.startswith("error: another rank is gone\n")


def test_an_unknown_signal_is_still_named():
    assert str(Ended("rank 1", returncode=-63)) == "rank 1 was killed by signal 63"
    assert Ended("rank 1", returncode=-63).exit_code == 3


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
        {
            "SLURM_STEP_ID": "0",
            "SLURM_PROCID": "1",
            "SLURM_STEP_NUM_TASKS": "2",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "1",
        },
    ],
    ids=["torchrun", "srun"],
)
def test_a_command_that_a_launcher_starts_several_times_is_refused(desk, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = desk.act("succeed")
    assert done.returncode == 2
    assert done.stderr == (
        "error: a launcher has started this command 2 times; start it once, without torchrun or "
        "srun: it starts its ranks itself, with --ranks 2 on one machine, by "
        "`sbatch slurm/stage.sh KIND CONFIG` in a Slurm job\n"
    )
    assert not (desk.folder / "runs").exists()


def test_a_launcher_of_one_process_is_no_launcher(desk, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert desk.act("succeed", "--ranks", "2").returncode == 0
    assert desk.record("act").num_ranks == 2


def test_a_job_has_room_for_its_tasks_or_a_rank_a_gpu(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "4")
    assert srun.num_tasks() == 8
    assert srun.srun_command(8)[-2:] == ["--nodes=2", "--ntasks=8"]
    assert srun.srun_command(1)[-2:] == ["--nodes=1", "--ntasks=1"]
    monkeypatch.setenv("SLURM_NTASKS", "3")
    assert srun.num_tasks() == 3


def test_srun_is_for_jobs_only(desk, monkeypatch):
    monkeypatch.setenv("SUPNORM_LAUNCHER", "srun")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    done = desk.act("succeed")
    assert done.returncode == 2
    assert "SUPNORM_LAUNCHER is srun, but this is no Slurm job; unset it" in done.stderr
