"""A desk to work at: a folder with a spec, and stages that do almost nothing (toys_root/toys)."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.spec.load import Spec, load_spec
from pipeline.store.artifacts import StageRecord, read_stage_record
from pipeline.store.staleness import assess, what_would_happen

TOYS_ROOT = Path(__file__).parent / "toys_root"
REPOSITORY = Path(__file__).parents[2]
MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test may run where Ctrl-C is ignored
from pipeline.cli import main
main("toys")
"""


class Desk:
    """Runs the real command line, in real processes, in a folder of its own."""

    PAIR = """
name: toy
stages:
  make: {text: hello}
  join: {inputs: {data: make}}
"""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code_root = TOYS_ROOT
        self.run_dir = Path("runs/toy")  # the tests stand in the folder
        self.started: list[subprocess.Popen[str]] = []

    def write(self, text: str | bytes, name: str = "x.yaml") -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def load(self, *overrides: str) -> Spec:
        return load_spec(Path("x.yaml"), overrides, "toys")

    def mistakes(self, text: str | bytes, *overrides: str) -> list[str]:
        """The lines of the message about a wrong spec, without its headline."""
        self.write(text)
        with pytest.raises(UserError) as error:
            self.load(*overrides)
        headline, *lines = str(error.value).split("\n")
        assert headline == f"x.yaml: {len(lines)} mistake{'s' if len(lines) > 1 else ''}"
        return lines

    def plan(self, *overrides: str) -> dict[str, str]:
        found = assess(self.load(*overrides), self.run_dir)
        return {name: what_would_happen(assessment) for name, assessment in found.items()}

    def record(self, stage: str) -> StageRecord:
        return read_stage_record(self.run_dir / stage)

    def environment(self) -> dict[str, str]:
        """The toys, and the code of this very checkout wherever another one is installed."""
        paths = os.pathsep.join([str(self.code_root), str(REPOSITORY)])
        return {**os.environ, "PYTHONPATH": paths, "COLUMNS": "120"}

    def start(self, *arguments: str, main: str = MAIN) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", main, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def command(self, *arguments: str, main: str = MAIN) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, main=main)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def run(self, *arguments: str) -> str:
        """What a run prints that must succeed."""
        done = self.command("run", "x.yaml", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def act(self, what: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a pipeline of one stage that behaves as the function `what` of toys/act/run.py."""
        self.write_act(what)
        return self.command("run", "x.yaml", *arguments)

    def own_code(self) -> Path:
        """A copy of the toys' code that a test may change."""
        self.code_root = self.folder / "code"
        shutil.copytree(TOYS_ROOT, self.code_root)
        return self.code_root / "toys"

    def write_act(self, what: str) -> None:
        self.write(f"name: toy\nstages:\n  act: {{what: {what}}}\n")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(TOYS_ROOT)
    desk = Desk(tmp_path)
    yield desk
    for process in desk.started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def wait_for() -> Callable[[Callable[[], object]], None]:
    """Waits until something is so, ten seconds at most."""

    def wait(is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not is_so():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait
