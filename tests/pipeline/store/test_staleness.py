"""What would run, and why."""

import json
import shutil
import sys

import pytest

from pipeline.errors import UserError
from pipeline.store.digests import code_digests
from pipeline.store.staleness import Verdict, assess


@pytest.fixture
def pair(desk):
    """A pipeline of two stages that has run."""
    desk.write(desk.PAIR)
    desk.run()
    return desk


def test_a_new_pipeline_has_never_run_and_a_look_makes_no_folder(desk):
    desk.write(desk.PAIR)
    assert desk.plan() == {"make": "runs: never run", "join": "runs: never run"}
    assert not (desk.folder / "runs").exists()


def test_each_stage_says_why_it_would_run(pair):
    assert pair.plan() == {"make": "up to date", "join": "up to date"}
    assert pair.plan("stages.make.count=2", "stages.make.tool={kind: pen, width: 3}") == {
        "make": "runs: count changed from 1 to 2; tool.width changed from 1 to 3",
        "join": "runs if make comes out different",
    }
    assert pair.plan("stages.join.separator=/") == {
        "make": "up to date",
        "join": 'runs: separator changed from "-" to "/"',
    }
    assert pair.plan("stages.make.table={a: 1}")["make"] == ("runs: table.a is new (1)")
    assert pair.plan("stages.join={kind: act, what: succeed}")["join"] == (
        'runs: kind changed from join to act; what is new ("succeed"); label is new (""); '
        "separator is gone; code of toys.act changed; code of toys.join changed; "
        "input data is gone"
    )


def test_the_place_of_results_and_the_rank_count_are_no_reason_to_run(pair):
    shutil.move(pair.folder / "runs", pair.folder / "elsewhere")
    done = pair.command("plan", "x.yaml", "--runs", "elsewhere")
    assert done.stdout == "make       up to date\njoin       up to date\n"


def test_changed_code_is_named_by_its_package(pair):
    with (pair.own_code() / "join" / "run.py").open("a") as file:
        file.write("# a remark\n")
    plan = pair.command("plan", "x.yaml")
    assert plan.stdout == "make       up to date\njoin       runs: code of toys.join changed\n"


@pytest.mark.parametrize(
    ("path", "is_code"),
    [
        ("README.md", False),
        ("bench/timing.py", False),
        ("_build/libjoin.so", False),
        ("__pycache__/run.cpython-311.pyc", False),
        ("notes.txt", False),
        (".draft.py", False),
        ("csrc/join.cpp", True),
        ("csrc/deep/join.cu", True),
        ("csrc/join.h", True),
        ("templates/page.html.j2", True),
        ("templates/page.css", True),
        ("figures.yaml", True),
    ],
)
def test_only_what_can_change_a_result_is_code(desk, monkeypatch, path, is_code):
    desk.own_code().rename(desk.code_root / "copied")
    monkeypatch.syspath_prepend(desk.code_root)
    monkeypatch.delitem(sys.modules, "copied", raising=False)
    desk.write(desk.PAIR)
    stage = desk.load().stage("join")
    before = code_digests("copied", stage)
    touched = desk.code_root / "copied" / "join" / path
    touched.parent.mkdir(parents=True, exist_ok=True)
    touched.write_text("once")
    first = code_digests("copied", stage)
    touched.write_text("twice")
    assert (first != before, code_digests("copied", stage) != first) == (is_code, is_code)


def test_an_old_record_is_read_and_the_stage_runs_again_because_the_code_is_new(pair):
    path = pair.run_dir / "join" / "stage.json"
    record = json.loads(path.read_text())
    record["num_tries"] = record.pop("num_attempts")
    record["code"]["toys.join"] = "of another version"
    path.write_text(json.dumps(record))
    assert pair.record("join").num_attempts == 1
    assert pair.plan()["join"] == "runs: code of toys.join changed"


def test_a_damaged_artifact_is_named_and_runs_again(pair):
    (pair.run_dir / "join" / "index.html").unlink()
    assert pair.plan()["join"] == "runs: runs/toy/join/index.html is missing"
    (pair.run_dir / "make" / "stage.json").write_text("{")
    assert "stage.json: damaged" in pair.plan()["make"]
    pair.run()
    assert pair.plan() == {"make": "up to date", "join": "up to date"}


def test_a_folder_that_no_run_wrote_is_left_alone(desk):
    desk.write(desk.PAIR)
    (desk.run_dir / "make").mkdir(parents=True)
    (desk.run_dir / "make" / "thesis.tex").write_text("years of work")
    done = desk.command("run", "x.yaml")
    assert done.returncode == 2
    assert "has no stage.json, so no run wrote it; move it away" in done.stderr
    assert (desk.run_dir / "make" / "thesis.tex").exists()
    with pytest.raises(UserError):
        desk.plan()


def test_a_stage_behind_one_that_runs_waits(pair):
    found = assess(pair.load("stages.make.count=2"), pair.run_dir)
    assert found["make"].verdict is Verdict.STALE
    assert found["join"].verdict is Verdict.WAITS
    assert found["join"].work_digest is None
    assert found["join"].reasons == ("make must run first",)


def test_what_only_decides_how_fast_makes_nothing_stale(pair):
    assert pair.plan("stages.make.mode=careful")["make"] == "up to date"
