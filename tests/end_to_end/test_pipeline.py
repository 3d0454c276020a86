"""The whole chain as a user runs it: real Fashion-MNIST, the shipped quickstart, small network."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.data.manifest import image_key
from stages.data.records import read_records, read_summary

ROOT = Path(__file__).parents[2]
STAGES = ("shard", "train", "prune", "certify", "certify_pruned", "report")
QUICK_ATTACK = "{steps: 2, restarts: 1, surrogates: [32], losses: [margin], square_queries: 5}"
SMALL = {
    "stages.train.network.width": "32",
    "stages.train.network.depth": "3",
    "stages.train.schedule.epochs": "2",
    "stages.train.rule.rise_epoch": "1",
    "stages.train.rule.infinite_epoch": "1.5",
    "stages.train.validation.every_epochs": "1",
    "stages.train.checkpoint.every_epochs": "0.2",
    "stages.prune.curve_points": "3",
    "stages.prune.tolerance": "0.01",
    "stages.certify.attack": QUICK_ATTACK,
    "stages.certify_pruned.attack": QUICK_ATTACK,
}

pytestmark = pytest.mark.skipif(
    not (ROOT / "data/fashion_mnist").exists(), reason="needs the Fashion-MNIST files: make setup"
)


def command(runs_dir: Path, settings: dict[str, str]) -> list[str]:
    choices = [part for item in settings.items() for part in ("--set", "=".join(item))]
    config = ["configs/quickstart.yaml", "--runs", str(runs_dir)]
    return [sys.executable, "-m", "pipeline", "run", *config, *choices]


def run(runs_dir: Path, **changes: str) -> str:
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    done = subprocess.run(
        command(runs_dir, settings), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def is_up_to_date(output: str) -> dict[str, bool]:
    lines = output.splitlines()
    return {
        stage: any(line.startswith(stage) and "up to date" in line for line in lines)
        for stage in STAGES
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    runs_dir = tmp_path_factory.mktemp("runs")
    run(runs_dir)
    yield runs_dir
    shutil.rmtree(runs_dir)


def test_every_test_image_is_certified_once_and_the_bounds_are_in_order(finished: Path) -> None:
    certify = finished / "quickstart/certify"
    records = read_records(certify / "records.csv")
    assert [record.key for record in records] == [image_key("test", i) for i in range(10_000)]
    summary = read_summary(certify)
    assert 0 < summary.certified_accuracy <= summary.attacked_accuracy <= summary.clean_accuracy
    assert summary.num_certified == sum(record.is_certified_at(summary.eps) for record in records)


def test_report_shows_the_figures_of_the_summary(finished: Path) -> None:
    summary = read_summary(finished / "quickstart/certify")
    page = (finished / "quickstart/report/index.html").read_text()
    assert f"{100 * summary.num_clean_correct / summary.num_images:.2f}" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_run_again_finds_everything_up_to_date_within_five_seconds(finished: Path) -> None:
    start = time.monotonic()
    output = run(finished)
    assert time.monotonic() - start < 5
    assert is_up_to_date(output) == dict.fromkeys(STAGES, True)


def test_a_changed_setting_of_certify_runs_certify_and_report_only(
    finished: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished / "quickstart", tmp_path / "quickstart", symlinks=True)
    changes = {"stages__certify__eps": "1/20", "stages__certify_pruned__eps": "1/20"}
    output = run(tmp_path, **changes)
    kept = ("shard", "train", "prune")
    assert is_up_to_date(output) == {stage: stage in kept for stage in STAGES}
    assert str(read_summary(tmp_path / "quickstart/certify").eps) == "1/20"


def test_training_killed_at_any_moment_ends_with_the_same_network(
    finished: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(tmp_path, SMALL), cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True
    )
    latest = tmp_path / "quickstart/.train.partial/checkpoints/latest"
    while not latest.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    output = run(tmp_path)
    assert "going on from the checkpoint" in output
    network = "quickstart/train/network.safetensors"
    assert (tmp_path / network).read_bytes() == (finished / network).read_bytes()
    record = json.loads((tmp_path / "quickstart/train/stage.json").read_text())
    assert record["num_attempts"] == 2
