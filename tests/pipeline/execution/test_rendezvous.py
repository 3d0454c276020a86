"""Ranks that a launcher has started itself: one leads, the others follow, none is left behind."""

import os
import subprocess
import sys
import time

import pytest

from pipeline.errors import UserError
from pipeline.execution.rendezvous import CALL_NAME, RankGroup
from pipeline.ranks import Ranks

CHAIN = """
name: toy
stages:
  act: {what: show_surroundings}
  make: {text: hello}
  join: {inputs: {data: make}}
"""


@pytest.fixture
def launch(desk, monkeypatch):
    """Starts a command as so many ranks, the way a launcher does."""

    def start(size, *arguments, names=("RANK", "WORLD_SIZE", "LOCAL_RANK")):
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", "29411")
        processes = []
        for rank in range(size):
            for name, value in zip(names, (rank, size, rank), strict=True):
                monkeypatch.setenv(name, str(value))
            processes.append(desk.start("run", "x.yaml", *arguments))
        return processes

    return start


def ends(processes):
    done = [process.communicate(timeout=60) for process in processes]
    return [process.returncode for process in processes], done


def test_launched_ranks_run_a_chain_together_and_the_first_commits(desk, launch):
    desk.write(CHAIN)
    codes, done = ends(launch(3))
    assert codes == [0, 0, 0], done
    lines = [(desk.run_dir / "act" / f"rank-{rank}.txt").read_text() for rank in range(3)]
    for rank, line in enumerate(lines):
        assert line.startswith(f"RANK={rank} WORLD_SIZE=3 LOCAL_RANK={rank} LOCAL_WORLD_SIZE=3 ")
    ranks = [desk.record(stage).num_ranks for stage in ("act", "make", "join")]
    assert ranks == [3, 3, 1]  # join can use one only
    assert "act" in done[0][0]
    assert [output for output, _ in done[1:]] == ["", ""]


def test_a_rank_that_starts_late_or_first_finds_its_call(desk, launch, monkeypatch):
    desk.write("name: toy\nstages:\n  act: {what: show_surroundings}\n")
    assert ends(launch(2))[0] == [0, 0]
    stale = (desk.run_dir / CALL_NAME).read_text()
    assert '"working_dir": null' in stale
    desk.run_dir.joinpath(CALL_NAME).write_text(stale.replace("null", '"runs/toy/.gone.partial"'))
    time.sleep(0.01)
    codes, done = ends(launch(2, "--force"))
    assert codes == [0, 0], done


def test_a_rank_that_fails_ends_with_the_code_of_its_stage(desk, launch):
    desk.write("name: toy\nstages:\n  act: {what: fail_beside_sleepers}\n")
    first, second = launch(2)
    second.communicate(timeout=30)
    assert second.returncode == 3  # the launcher ends the others
    first.terminate()
    first.communicate(timeout=30)
    assert first.returncode == 0  # as asked


def test_a_rank_leaves_when_the_first_one_has_failed(desk, launch, monkeypatch):
    desk.write("name: toy\nstages:\n  act: {what: first_fails_beside_sleepers}\n")
    start = time.monotonic()
    codes, _ = ends(launch(2))
    assert codes[0] == 3
    assert time.monotonic() - start < 30


def test_ranks_need_a_place_to_meet(tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UserError, match="without MASTER_ADDR, so they cannot meet"):
        RankGroup.from_environment(tmp_path)


def test_the_number_of_ranks_is_the_launchers_affair(desk, launch):
    desk.write(desk.PAIR)
    (first, second) = launch(2, "--ranks", "4")
    assert "--ranks 4: the launcher has started 2 ranks" in first.communicate(timeout=30)[1]
    assert first.returncode == 2
    second.kill()
    second.communicate()


def test_a_lone_rank_is_no_crew(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    assert RankGroup.from_environment(tmp_path) is None


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_a_real_launcher_starts_the_ranks(desk, launcher):
    desk.write("name: toy\nstages:\n  act: {what: show_surroundings}\n  make: {text: a}\n")
    (desk.folder / "go.py").write_text("from pipeline.cli import main\nmain('toys')\n")
    module = {
        "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "go.py"],
        "deepspeed": ["deepspeed.launcher.launch", WORLD_INFO, "--master_port=29413", "go.py"],
    }[launcher]
    done = subprocess.run(
        [sys.executable, "-m", *module, "run", "x.yaml"],
        cwd=desk.folder,
        env={**desk.environment(), "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(desk.run_dir / "act" / f"rank-{rank}.txt").exists() for rank in range(2)] == [True] * 2
    assert desk.record("make").num_ranks == 2


WORLD_INFO = "--world_info=eyJsb2NhbGhvc3QiOiBbMCwgMV19"
"""{"localhost": [0, 1]}, as the deepspeed launcher tells its nodes."""


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
