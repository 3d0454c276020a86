"""Two runs of one stage cannot interleave, whatever becomes of either."""

import os
import signal
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.store.lock import current_holder, hold_locks


def test_a_second_run_is_refused_and_told_who_holds_the_pipeline(desk, wait_for):
    desk.write_act("sleep")
    first = desk.start("run", "x.yaml")
    wait_for((desk.run_dir / ".act.partial" / "begun-0.txt").exists)
    second = desk.command("run", "x.yaml")
    assert second.returncode == 4
    assert f"busy: runs/toy/act is in use by process {first.pid} on " in second.stderr
    assert f"wait for it, or stop it there with: kill {first.pid}" in second.stderr
    assert desk.command("plan", "x.yaml").returncode == 0
    first.send_signal(signal.SIGTERM)
    first.wait(timeout=20)
    assert current_holder(desk.run_dir / "act") is None


def test_ranks_die_with_a_killed_runner_and_the_next_run_goes_on(desk, wait_for):
    desk.write_act("sleep_deaf")
    runner = desk.start("run", "x.yaml", "--ranks", "2")
    begun = [desk.run_dir / ".act.partial" / f"begun-{rank}.txt" for rank in range(2)]
    wait_for(lambda: all(path.exists() and path.read_text() for path in begun))
    runner.kill()
    runner.wait()
    wait_for(lambda: not any(_is_alive(int(path.read_text())) for path in begun))
    assert desk.act("succeed").returncode == 0


def test_what_outlives_a_killed_runner_keeps_the_lock_until_it_is_gone(desk, wait_for):
    desk.write_act("leave_orphan")
    runner = desk.start("run", "x.yaml")
    wait_for((desk.run_dir / ".act.partial" / "begun-0.txt").exists)
    runner.kill()
    runner.wait()
    refused = desk.act("succeed")
    assert refused.returncode == 4
    assert f"its run (process {runner.pid}) is gone, but ranks that it started go on" in (
        refused.stderr
    )
    wait_for(lambda: current_holder(desk.run_dir / "act") is None)
    assert desk.act("succeed").returncode == 0


def test_a_look_at_a_free_lock_does_not_refuse_a_run(tmp_path):
    artifact = tmp_path / "train"
    assert current_holder(artifact) is None
    with hold_locks(artifact):
        holder = current_holder(artifact)
        assert holder is not None
        assert (holder.pid, holder.is_gone) == (os.getpid(), False)
        with pytest.raises(BusyError), hold_locks(artifact):
            pass
    assert current_holder(artifact) is None


def test_a_stage_is_not_replaced_while_another_reads_it(tmp_path):
    shard = tmp_path / "shard"
    with hold_locks(tmp_path / "train", [shard]), hold_locks(tmp_path / "train2", [shard]):
        with pytest.raises(BusyError, match="shard is being read by a run of another stage"):
            hold_locks(shard).__enter__()
        assert current_holder(shard) is None
    with (
        hold_locks(shard),
        pytest.raises(BusyError, match="shard is in use by process"),
        hold_locks(tmp_path / "train", [shard]),
    ):
        pass


def test_stages_of_one_pipeline_run_side_by_side(desk, wait_for):
    desk.write(desk.PAIR.replace("join:", "act: {what: sleep}\n  join:"))
    first = desk.start("run", "x.yaml", "--stage", "act")
    wait_for((desk.run_dir / ".act.partial" / "begun-0.txt").exists)
    desk.run("--stage", "make", "--stage", "join")
    assert first.poll() is None


def test_a_lock_file_of_garbage_is_no_obstacle(tmp_path):
    path = tmp_path / ".train.lock"
    path.write_text("not json")
    with hold_locks(tmp_path / "train"):
        path.write_text("garbage")
        assert current_holder(tmp_path / "train") is None
        with pytest.raises(BusyError), hold_locks(tmp_path / "train"):
            pass


def _is_alive(pid: int) -> bool:
    """True while a process runs; one that is only waiting to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
