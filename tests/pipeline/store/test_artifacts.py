"""An artifact appears whole or not at all, also when the run is killed in the middle of it."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import StageError
from pipeline.store.artifacts import damage, output_names, read_stage_record

KILLED_BEFORE_RENAME = """
import os, pathlib, shutil, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
left, rename, rmtree = [%d], pathlib.Path.rename, shutil.rmtree
replace = pathlib.Path.replace

def die_or(act, *arguments, **options):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return act(*arguments, **options)

pathlib.Path.rename = lambda *arguments: die_or(rename, *arguments)
pathlib.Path.replace = lambda *arguments: die_or(replace, *arguments)
shutil.rmtree = lambda *arguments, **options: die_or(rmtree, *arguments, **options)
from pipeline.cli import main
main("toys")
"""
MAKE = "name: toy\nstages:\n  make: {text: %s}\n"


def test_a_record_says_how_the_artifact_was_made_and_what_is_in_it(desk):
    desk.write(MAKE % "hello")
    desk.run("--set", "stages.make.seed=7")
    record = desk.record("make")
    assert (record.pipeline, record.stage, record.kind) == ("toy", "make", "make")
    assert record.settings["text"] == "hello"
    assert record.settings["eps"] == "0"
    assert "inputs" not in record.settings
    assert list(record.outputs) == ["pages/text.txt"]
    assert record.outputs["pages/text.txt"].bytes == 5
    assert list(record.code) == ["toys.make"]
    assert (record.num_ranks, record.seed, record.num_attempts, record.exit) == (1, 7, 1, 0)
    assert record.machine.num_cores >= 1
    assert {"python", "torch", "pydantic"} <= record.packages.keys()
    assert 0 < (record.end - record.start).total_seconds() < 60
    assert record.start.tzinfo is not None
    text = (desk.run_dir / "make" / "stage.json").read_text()
    assert json.loads(text)["end"].endswith("Z")


def test_what_only_serves_to_resume_is_no_output(tmp_path):
    for name in ("a.txt", "deep/b.txt", "checkpoints/c.bin", "stage.json", "attempt.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert output_names(tmp_path) == ["a.txt", "deep/b.txt"]


def test_a_missing_shortened_or_altered_file_is_named(desk):
    desk.write(MAKE % "hello")
    desk.run()
    folder, record = desk.run_dir / "make", desk.record("make")
    page = folder / "pages" / "text.txt"
    assert damage(folder, record, verify_hashes=True) is None
    page.write_text("jello")
    assert damage(folder, record) is None
    assert "pages/text.txt was altered" in str(damage(folder, record, verify_hashes=True))
    page.write_text("hell")
    assert damage(folder, record) == "pages/text.txt has 4 bytes instead of 5"
    page.unlink()
    assert damage(folder, record) == "pages/text.txt is missing"


@pytest.mark.parametrize("content", ["", "{}", '{"pipeline": 3}', "[" * 10])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "stage.json").write_text(content)
    with pytest.raises(StageError, match=r"stage\.json: damaged at"):
        read_stage_record(tmp_path)


def test_a_missing_record_is_named(tmp_path):
    with pytest.raises(StageError, match="cannot be read"):
        read_stage_record(tmp_path)


@pytest.fixture(scope="module")
def earlier_run(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("earlier")


MOMENTS = [
    "before attempt.json",
    "before stage.json",
    "before the older artifact steps aside",
    "between the two renames",
    "before the older artifact is removed",
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_of_a_commit_is_repaired_by_the_next(desk, earlier_run, moment):
    if (earlier_run / "runs").exists():
        shutil.copytree(earlier_run / "runs", desk.folder / "runs")
    else:
        desk.write(MAKE % "old")
        desk.run()
        shutil.copytree(desk.folder / "runs", earlier_run / "runs")
    desk.write(MAKE % "new")
    killed = desk.command("run", "x.yaml", main=KILLED_BEFORE_RENAME % MOMENTS.index(moment))
    assert killed.returncode == -9
    artifact = desk.run_dir / "make"
    if moment == "between the two renames":
        assert not artifact.exists()
    else:
        assert damage(artifact, desk.record("make"), verify_hashes=True) is None
        text = (artifact / "pages" / "text.txt").read_text()
        assert text == ("new" if moment == MOMENTS[-1] else "old")
    desk.run()
    assert (artifact / "pages" / "text.txt").read_text() == "new"
    assert damage(artifact, desk.record("make"), verify_hashes=True) is None
    assert sorted(path.name for path in desk.run_dir.iterdir()) == [".make.lock", "make"]


def test_a_sealed_result_is_published_without_running_the_stage_again(desk):
    desk.write(MAKE % "new")
    moment = MOMENTS.index("before the older artifact steps aside")  # here: before the only rename
    assert desk.command("run", "x.yaml", main=KILLED_BEFORE_RENAME % moment).returncode == -9
    sealed = desk.run_dir / ".make.partial" / "stage.json"
    made = sealed.read_text()
    desk.run()
    assert (desk.run_dir / "make" / "stage.json").read_text() == made
