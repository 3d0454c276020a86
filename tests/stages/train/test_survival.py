"""What breaks under a run, for real: disks, ranks; and what it goes on from."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from pipeline.errors import StageError
from stages.models.network_file import load_network
from stages.train.checkpoint import load_newest, newest_step
from stages.train.config import Settings

Train = Callable[[Path, Settings], Path]
OFTEN = {
    "schedule": {"epochs": 10},
    "rule": {"rise_epoch": 1, "infinite_epoch": 8},
    "checkpoint": {"every_epochs": 0.2, "keep": 1000},
}
needs_mount = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("mount") is None, reason="mounts a small disk: needs root"
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "small", place], check=False)
    if done.returncode:
        pytest.skip("this machine lets nobody mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def wait_for_step(step: int, folder: Path, ranks: "list[subprocess.Popen[str]]") -> None:
    while (newest_step(folder) or 0) < step:
        for rank in ranks:
            assert rank.poll() is None, rank.communicate()[1]
        time.sleep(0.01)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@needs_mount
def test_a_full_disk_stops_the_run_and_a_larger_one_continues_it(
    tmp_path: Path, tiny: Callable[..., Settings], train: Train, small_disk: Path
) -> None:
    settings = tiny(**OFTEN)
    whole = train(tmp_path / "whole", settings)
    folder = small_disk / "run"
    with pytest.raises(StageError, match=r"step-\d+: No space left on device; make room or mend"):
        train(folder, settings)
    assert newest_step(folder)
    assert load_newest(folder).damaged == ()
    remount(small_disk, "size=8m")
    train(folder, settings)
    for name in ("network.safetensors", "network.json"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@needs_mount
def test_a_disk_that_may_not_be_written_is_named(
    tiny: Callable[..., Settings], train: Train, small_disk: Path
) -> None:
    (small_disk / "run").mkdir()
    remount(small_disk, "ro")
    with pytest.raises(StageError, match=r"cannot write checkpoint .*: Read-only file system"):
        train(small_disk / "run", tiny(**OFTEN))


@pytest.mark.slow
def test_a_run_goes_on_with_other_ranks_and_another_stage(
    tmp_path: Path,
    tiny: Callable[..., Settings],
    train: Train,
    start_ranks: Callable[..., list["subprocess.Popen[str]"]],
) -> None:
    """Begun by 2 ranks at ZeRO 2, continued by 3 at ZeRO 3 and 4 at ZeRO 1, ended by 1 at 0."""
    rising = {"rise_epoch": 0, "infinite_epoch": 10}
    mixture = {"loss": {"kind": "mixture"}, "eps_train": "1/5"}
    common = OFTEN | mixture | {"schedule": {"epochs": 10}, "rule": rising}
    whole = train(tmp_path / "whole", tiny(**common))
    folder = tmp_path / "moved"
    for num_ranks, stage in ((2, 2), (3, 3), (4, 1)):
        before = newest_step(folder) or 0
        settings = tiny(**common, distributed={"zero_stage": stage, "bucket_elements": 1000})
        ranks = start_ranks(folder, settings, num_ranks)
        wait_for_step(before + 10, folder, ranks)
        ranks[0].send_signal(signal.SIGTERM)
        errors = [rank.communicate(timeout=100)[1] for rank in ranks]
        assert all("StoppedOnRequest" in text for text in errors), errors
    train(folder, tiny(**common))
    for name, expected in load_network(whole).network.state_dict().items():
        found = load_network(folder).network.state_dict()[name]
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max(), name


@pytest.mark.slow
def test_a_rank_that_dies_takes_the_others_down_within_a_minute(
    tmp_path: Path,
    tiny: Callable[..., Settings],
    start_ranks: Callable[..., list["subprocess.Popen[str]"]],
) -> None:
    """Without a launcher, as under srun: the others notice by themselves."""
    ranks = start_ranks(tmp_path / "run", tiny(**OFTEN), 3)
    wait_for_step(5, tmp_path / "run", ranks)
    ranks[1].kill()
    killed = time.monotonic()
    errors = [ranks[number].communicate(timeout=60)[1] for number in (0, 2)]
    assert time.monotonic() - killed < 60
    assert all("LostRank: another rank is gone or hangs" in text for text in errors), errors
    found = load_newest(tmp_path / "run")
    assert found.checkpoint is not None
    assert found.damaged == ()


def test_the_state_of_a_checkpoint_does_not_name_ranks_or_stages(
    tmp_path: Path, tiny: Callable[..., Settings], train: Train
) -> None:
    states = []
    for stage in (0, 1, 2, 3):
        folder = train(tmp_path / str(stage), tiny(distributed={"zero_stage": stage}))
        found = load_newest(folder).checkpoint
        assert found is not None
        states.append(found.state)
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, states[0][name], rtol=1e-4, atol=1e-5)
