"""The commands as a user, or a script, meets them."""

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

MAIN_OF_STAGE = """
from pipeline.cli import main_of_stage
main_of_stage("join", "toys")
"""
AS_SCRIPT = """
import sys
from pipeline.cli import main
sys.argv[0] = "/usr/bin/supnorm"
main()
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


def test_every_verb_over_a_pipeline_chooses_stages_by_kind_and_member(desk):
    desk.write(desk.PAIR)
    assert desk.command("run", "x.yaml", "--kind", "make").returncode == 0
    left = desk.command("plan", "x.yaml", "--kind", "join").stdout
    assert left.startswith("join") and "make" not in left
    none = desk.command("status", "x.yaml", "--kind", "jion")
    assert (none.returncode, none.stderr) == (2, "error: x.yaml: has no stage of kind jion\n")
    member = desk.command("plan", "x.yaml", "--member", "1")
    assert "--member 1: the sweep has no such member" in member.stderr


@pytest.mark.parametrize("arguments", [("-q", "run", "x.yaml"), ("run", "x.yaml", "--quiet")])
def test_a_quiet_run_prints_errors_only(desk, arguments):
    desk.write(desk.PAIR)
    done = desk.command(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (desk.run_dir / "join" / "stage.json").exists()
    desk.write(desk.PAIR.replace("hello", "3"))
    assert desk.command(*arguments).stderr.startswith("error: x.yaml: 1 mistake")


def test_a_job_script_gets_its_answer_whatever_the_options(desk):
    desk.write(desk.PAIR)
    options = ("x.yaml", "--kind", "make", "--quiet", "--ranks", "1")
    before = desk.command("job-state", *options).stdout
    desk.run()
    assert before != "done\n"
    assert desk.command("job-state", *options).stdout == "done\n"


@pytest.mark.parametrize("verb", [(), ("run",), ("fetch",)])
def test_help_has_a_short_form(desk, verb):
    short, long = (desk.command(*verb, option) for option in ("-h", "--help"))
    assert short.returncode == long.returncode == 0
    assert short.stdout == long.stdout


def test_help_names_every_tool_without_importing_one(desk):
    program = (
        "import sys, time; import pipeline.cli as cli\n"
        "sys.argv[1:] = ['--help']\n"
        "try: cli.main()\n"
        "finally: print(time.process_time(), 'torch' in sys.modules)"
    )
    *text, measured = desk.command(main=program).stdout.splitlines()
    for path in (REPOSITORY / "tools").glob("[a-z]*.py"):
        verb = path.stem.replace("_", "-")
        assert any(line.strip("│ ").startswith(f"{verb} ") for line in text)
    seconds, has_torch = measured.split()
    assert float(seconds) < 0.7
    assert has_torch == "False"


def test_the_version_is_that_of_the_package(desk):
    assert desk.command("--version").stdout == f"supnorm {version('supnorm')}\n"


def test_a_shell_gets_its_completion(desk, monkeypatch):
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    script = desk.command("--show-completion", "bash", main=AS_SCRIPT).stdout
    assert "complete " in script and "supnorm" in script
    monkeypatch.setenv("_SUPNORM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "supnorm certify-")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert desk.command(main=AS_SCRIPT).stdout.split() == ["certify-image"]


def test_a_wrong_command_line_ends_with_2(desk):
    desk.write(desk.PAIR)
    for arguments in (["chek", "x.yaml"], ["check"], ["run", "x.yaml", "--ranks", "0"]):
        assert desk.command(*arguments).returncode == 2
