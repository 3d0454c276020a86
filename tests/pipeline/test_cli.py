"""The commands as a user, or a script, meets them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

MAIN_OF_STAGE = """
from pipeline.cli import main_of_stage
main_of_stage("join", "toys")
"""
REPOSITORY = Path(__file__).parents[2]


def test_check_prints_one_line_with_the_stages_in_order(desk):
    desk.write(desk.PAIR)
    done = desk.command("check", "x.yaml")
    assert (done.returncode, done.stdout) == (0, "x.yaml: OK: make -> join\n")
    assert not (desk.folder / "runs").exists()


def test_check_ends_with_2_and_names_the_mistakes(desk):
    desk.write("name: toy\nstages:\n  make: {text: 3}\n")
    done = desk.command("check", "x.yaml")
    assert done.returncode == 2
    assert done.stderr == (
        "error: x.yaml: 1 mistake\nx.yaml:3: stages.make.text: 3 is given; must be text\n"
    )
    assert done.stdout == ""


@pytest.mark.parametrize("config", sorted(REPOSITORY.glob("configs/*.yaml")), ids=lambda c: c.stem)
def test_every_shipped_config_is_right_and_checked_in_a_moment_without_torch(config):
    program = (
        "import sys, time; import pipeline.cli as cli\n"
        "sys.argv[1:] = ['check', %r]\n"
        "try: cli.main()\n"
        "finally: print(time.process_time(), 'torch' in sys.modules, 'rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program % str(config)], capture_output=True, text=True, check=True
    )
    verdict, measured = done.stdout.splitlines()
    assert ": OK: shard -> train" in verdict
    seconds, has_torch, has_rich = measured.split()
    assert float(seconds) < 0.7
    assert (has_torch, has_rich) == ("False", "False")


def test_status_shows_how_each_stage_stands(desk, wait_for):
    desk.write(desk.PAIR.replace("join:", "act: {what: sleep}\n  join:"))
    before = desk.command("status", "x.yaml").stdout.splitlines()
    assert before[0] == "toy in runs/toy"
    assert before[1].split() == ["stage", "state", "finished", "took", "size"]
    assert [line.split()[:3] for line in before[2:]] == [
        [name, "never", "run"] for name in ("make", "act", "join")
    ]
    process = desk.start("run", "x.yaml")
    wait_for((desk.run_dir / ".act.partial" / "begun-0.txt").exists)
    during = desk.command("status", "x.yaml", "--set", "stages.make.count=2").stdout.splitlines()
    assert during[2].startswith("make   stale: count changed from 1 to 2  20")
    assert during[3].startswith(f"act    running: process {process.pid} on ")
    process.terminate()
    process.communicate()
    after = desk.command("status", "x.yaml").stdout.splitlines()
    assert after[2].split()[:5] == ["make", "up", "to", "date", time.strftime("%Y-%m-%d")]
    assert after[2].endswith("kB")
    assert after[3].startswith("act    incomplete: the next run continues where it stopped")
    other = desk.command("status", "x.yaml", "--set", "stages.act.label=x", "--stage", "act")
    assert "incomplete: the next run starts anew" in other.stdout
    assert "make" not in other.stdout


def test_status_finds_altered_bytes_when_asked_to_verify(desk):
    desk.write(desk.PAIR)
    desk.run()
    (desk.run_dir / "make" / "pages" / "text.txt").write_text("jello")
    assert "stale" not in desk.command("status", "x.yaml").stdout
    verified = desk.command("status", "x.yaml", "--verify").stdout
    assert "stale: runs/toy/make/pages/text.txt was altered: its sha256 is another" in verified


def test_the_stages_of_one_kind_run_alone(desk):
    desk.write(desk.PAIR + "  join2: {kind: join, inputs: {data: make}, separator: .}\n")
    refused = desk.command("x.yaml", main=MAIN_OF_STAGE)
    assert refused.returncode == 2
    assert "join reads make, which is not up to date" in refused.stderr
    desk.run("--stage", "make")
    done = desk.command("x.yaml", main=MAIN_OF_STAGE)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines() if "done" in line] == [
        "join",
        "join2",
    ]
    one = desk.command("x.yaml", "--stage", "join2", "--force", main=MAIN_OF_STAGE)
    assert [line.split()[0] for line in one.stdout.splitlines() if "done" in line] == ["join2"]
    wrong = desk.command("x.yaml", "--stage", "make", main=MAIN_OF_STAGE)
    assert wrong.returncode == 2
    assert "--stage make: is no stage of kind join" in wrong.stderr


def test_a_stage_that_is_not_there_is_named_by_every_command(desk):
    desk.write(desk.PAIR)
    for command in ("check", "plan", "run", "status"):
        done = desk.command(command, "x.yaml", "--stage", "jion")
        assert done.returncode == 2
        assert 'no stage "jion"; did you mean "join"?' in done.stderr


def test_a_wrong_command_line_ends_with_2(desk):
    desk.write(desk.PAIR)
    for arguments in (["chek", "x.yaml"], ["check"], ["run", "x.yaml", "--ranks", "0"]):
        assert desk.command(*arguments).returncode == 2
