"""A two-node cluster for all tests here, and a tiny pipeline of all stages to run on it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cluster.jobs import read_jobs
from tests.slurm.cluster import Cluster, missing_programs

ROOT = Path(__file__).parents[2]
SPEC = """
name: tiny
resources:
  time: "10"
  stages:
    train: {nodes: 2}
    certify: {nodes: 2}
stages:
  shard: {dataset: folder, source: pictures, validation_images: 30, images_per_block: 16}
  train:
    inputs: {data: shard}
    eps: 1/20
    eps_train: 1/10
    network: {kind: distance_mlp, width: 16, depth: 2}
    loss: {kind: hinge}
    rule: {kind: rising_p, rise_epoch: 1, infinite_epoch: LAST}
    schedule: {epochs: EPOCHS}
    batch_size: 30
    validation: {every_epochs: 5}
    checkpoint: {every_epochs: 2}
  prune:
    inputs: {data: shard, network: train}
    eps: 1/20
    sparsity: 0.5
  certify:
    inputs: {data: shard, network: train}
    eps: 1/20
    batch_size: 10
    attack: {steps: 1, surrogates: [32], losses: [margin]}
  certify_pruned:
    kind: certify
    inputs: {data: shard, network: prune}
    eps: 1/20
    batch_size: 10
    attack: {steps: 1, surrogates: [32], losses: [margin]}
  report:
    inputs: {data: shard, records: [certify, certify_pruned]}
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = missing_programs()
    if missing:
        pytest.skip(f"needs Slurm ({', '.join(missing)}): apt-get install slurm-wlm munge")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Desk:
    """A folder to submit from, with pictures and a spec, and the commands of a user."""

    root = ROOT

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.run_dir = folder / "runs/tiny"
        _write_pictures(folder / "pictures")
        self.write()

    def write(self, epochs: int = 2, **replacements: str) -> None:
        text = SPEC.replace("EPOCHS", str(epochs)).replace("LAST", str(epochs - 1))
        for old, new in replacements.items():
            text = text.replace(old, new)
        (self.folder / "tiny.yaml").write_text(text)

    def command(self, *words: str, program: tuple[str, ...] = ()) -> str:
        """What a command prints that must succeed."""
        done = self.attempt(*words, program=program)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(
        self, *words: str, program: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        environment = {**self.cluster.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [*(program or (sys.executable, "-m", "pipeline")), *words],
            cwd=self.folder,
            env={name: value for name, value in environment.items() if name != "SLURM_JOB_ID"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def log(self, stage: str) -> str:
        return (self.run_dir / f"slurm/{stage}-{self.job_id(stage)}.log").read_text()

    def wait_for_checkpoint(self, after: int) -> None:
        """Return once training has committed a checkpoint after more steps than these."""
        latest = self.run_dir / ".train.partial/checkpoints/latest"

        def is_there() -> bool:
            return latest.exists() and int(latest.read_text().removeprefix("step-")) > after

        self.cluster.wait_for(is_there, 120, "a checkpoint")

    def job_id(self, stage: str) -> str:
        return read_jobs(self.run_dir)[stage].job_id

    def wait_until_done(self, *stages: str, timeout_s: float = 180) -> None:
        def is_done() -> bool:
            return all((self.run_dir / stage / "stage.json").exists() for stage in stages)

        def is_over() -> bool:
            ended = ("FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY")
            states = [self.cluster.job(self.job_id(stage))["JobState"] for stage in stages]
            return is_done() or any(state in ended for state in states)

        self.cluster.wait_for(is_over, timeout_s, f"{stages} are done")
        assert is_done(), self.logs()

    def logs(self) -> str:
        paths = sorted((self.run_dir / "slurm").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in paths)


@pytest.fixture(scope="session")
def make_desk(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Desk]:
    return lambda: Desk(tmp_path_factory.mktemp("desk"), cluster)


@pytest.fixture
def desk(make_desk: Callable[[], Desk]) -> Iterator[Desk]:
    desk = make_desk()
    yield desk
    desk.attempt("cancel", "tiny.yaml")


def _write_pictures(folder: Path) -> None:
    """Noisy 8 x 8 pictures of two classes: dark left, dark right."""
    random = np.random.default_rng(0)
    for split, count in (("train", 90), ("test", 20)):
        for label, side in enumerate(("left", "right")):
            (folder / split / side).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (8, 8))
                pixels[:, 4 * label : 4 * label + 4] += 150
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / split / side / f"{number}.png"
                )
