"""A certify stage in real processes, killed with kill -9, gone on with by other numbers of ranks.

The rows must be those of a run that nothing disturbed, every image once.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from stages.data.records import read_records

RANK = """
import sys, torch
from pathlib import Path
from pipeline.execution.context import Context
from pipeline.ranks import Ranks
from stages.certify.config import Settings
from stages.certify.run import run

torch.set_num_threads(1)
root, out, settings, rank, world_size = sys.argv[1:]
inputs = {"data": Path(root) / "shard", "network": Path(root) / "train"}
ranks = Ranks(int(rank), int(world_size), int(rank), int(world_size))
run(Context("test", "certify", Path(out), inputs, ranks), Settings.model_validate_json(settings))
"""


@pytest.fixture
def settings(tools):
    """Batches of four images, and an attack that takes a while."""
    attack = {"steps": 5, "restarts": 2, "square_queries": 20}
    return tools.settings_for(batch_size=4, attack=attack)


def start(world, out, settings, world_size):
    out.mkdir(exist_ok=True)
    words = [sys.executable, "-c", RANK, world.data_dir.parent, out, settings.model_dump_json()]
    return [
        subprocess.Popen([*map(str, words), str(rank), str(world_size)], start_new_session=True)
        for rank in range(world_size)
    ]


def finish(ranks):
    assert [rank.wait(timeout=120) for rank in ranks] == [0] * len(ranks)


def kill_after(ranks, out, num_parts):
    parts = out / "parts"
    while not parts.exists() or len([*parts.glob("*.csv")]) < num_parts:
        time.sleep(0.01)
        assert any(rank.poll() is None for rank in ranks)
    for rank in ranks:
        os.killpg(rank.pid, signal.SIGKILL)
        rank.wait()


def rows_of(folder):
    return [row.model_dump(exclude={"seconds"}) for row in read_records(folder / "records.csv")]


def test_kills_and_other_numbers_of_ranks_change_no_row(world, settings, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "out"
    finish(start(world, whole, settings, 1))
    kill_after(start(world, out, settings, 2), out, 1)
    kept = {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.csv")}
    assert 0 < len(kept) < 10
    kill_after(start(world, out, settings, 1), out, len(kept) + 1)
    for name, stamp in kept.items():
        assert (out / "parts" / name).stat().st_mtime_ns == stamp, "finished work is not redone"
    finish(start(world, out, settings, 3))
    assert rows_of(out) == rows_of(whole)
    assert len(rows_of(out)) == 40
    for name in ("network.int.safetensors", "network.int.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not (out / "parts").exists()
