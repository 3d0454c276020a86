"""Kills training again and again, and compares what comes out with a run that nobody disturbed.

    make reliability

Each scenario trains a small network on Fashion-MNIST through `python -m pipeline run`. A killer
waits for its moment, sends SIGKILL, and the same command is given again, until the kills are used
up and the run may end. The network it leaves must be the undisturbed one, bit for bit.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = """
name: campaign
stages:
  shard: {{dataset: fashion_mnist, source: {source}, shard_bytes: 4000000}}
  train:
    inputs: {{data: shard}}
    eps: 1/10
    eps_train: 1/5
    network: {{kind: distance_mlp, width: 24, depth: 3}}
    loss: {{kind: mixture}}
    rule: {{kind: rising_p, rise_epoch: 0.5, infinite_epoch: 1.5}}
    schedule: {{epochs: 2}}
    optimiser: {{decay: 0.005}}
    augment: {{crop_padding: 1}}
    batch_size: 512
    loader: {loader}
    shuffle_window: 20000
    distributed: {{zero_stage: {zero_stage}, bucket_elements: 100000}}
    validation: {{every_epochs: 1, means_images: 2000}}
    checkpoint: {{every_epochs: 0.03, keep: 2}}
"""
MOMENTS = ("while it starts", "between checkpoints", "inside a checkpoint's write", "at its rename")


@dataclass(frozen=True)
class Scenario:
    """How the run that is killed is spread."""

    num_ranks: int
    loader: str
    zero_stage: int


@dataclass(frozen=True)
class Kill:
    """One death."""

    moment: str
    victim: str
    newest: str
    """Name of the newest checkpoint at that time."""


@dataclass(frozen=True)
class StepOutput:
    """What became of a scenario."""

    scenario: Scenario
    kills: tuple[Kill, ...]
    is_identical: bool
    """The network and the history of the killed run are those of the undisturbed one."""


SCENARIOS = (
    Scenario(1, "resident", 0),
    Scenario(2, "streaming", 0),
    Scenario(2, "resident", 2),
)


def survive(scenario: Scenario, num_kills: int, folder: Path, seed: int) -> StepOutput:
    """Run one scenario undisturbed and killed.

    Args:
        scenario: how it is spread.
        num_kills: how many times; a run that ends earlier is an error of the campaign.
        folder: to work in.
        seed: of the killer.
    """
    chance = random.Random(seed)
    config = folder / "campaign.yaml"
    source = ROOT / "data" / "fashion_mnist"
    spread = {"loader": scenario.loader, "zero_stage": scenario.zero_stage}
    config.write_text(SPEC.format(source=source, **spread))
    whole, killed = folder / "whole", folder / "killed"
    assert _start(config, whole, scenario).wait() == 0, "the undisturbed run failed"
    shutil.copytree(whole / "campaign" / "shard", killed / "campaign" / "shard")
    kills = []
    while len(kills) < num_kills:
        moment = MOMENTS[len(kills) % len(MOMENTS)]
        run = _start(config, killed, scenario)
        kill = _kill_at(run, moment, killed / "campaign" / ".train.partial", chance)
        assert kill, f"the run ended before kill {len(kills) + 1}"
        kills.append(kill)
    assert _start(config, killed, scenario).wait() == 0, "the last run failed"
    return StepOutput(scenario, tuple(kills), _result(whole) == _result(killed))


def _start(config: Path, runs: Path, scenario: Scenario) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "pipeline", "run", config, "--runs", runs]
    with (config.parent / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*command, "--ranks", str(scenario.num_ranks)], cwd=ROOT, stdout=log, stderr=log
        )


def _kill_at(
    run: "subprocess.Popen[bytes]", moment: str, working_dir: Path, chance: random.Random
) -> Kill | None:
    """Wait for the moment, kill a rank or the runner, and wait until nothing of them is left."""
    checkpoints = working_dir / "checkpoints"
    before = _newest(checkpoints)
    if moment == "while it starts":
        time.sleep(chance.uniform(0.5, 4))
    else:
        _wait(run, lambda: _newest(checkpoints) != before)
        if moment == "between checkpoints":
            time.sleep(chance.uniform(0, 0.2))
        elif moment == "inside a checkpoint's write":
            _wait(run, lambda: any(checkpoints.glob(".step-*.partial")))
            time.sleep(chance.uniform(0, 0.004))
        else:
            newest = _newest(checkpoints)
            _wait(run, lambda: _newest(checkpoints) != newest)
    if run.poll() is not None:
        return None
    ranks = _children(run.pid)
    number = chance.randrange(len(ranks) + 1)
    victim = run.pid if number == len(ranks) else ranks[number]
    newest = _newest(checkpoints) or "none"
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    run.wait()
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        time.sleep(0.01)
    return Kill(moment, "the runner" if number == len(ranks) else f"rank {number}", newest)


def _wait(run: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    while run.poll() is None and not condition():
        time.sleep(0.0005)


def _newest(checkpoints: Path) -> str | None:
    return max((path.name for path in checkpoints.glob("step-*")), default=None)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def _result(runs: Path) -> tuple[bytes, list[dict[str, object]]]:
    """The network's bytes, and the history without what a clock wrote."""
    train = runs / "campaign" / "train"
    lines = [json.loads(line) for line in (train / "history.jsonl").read_text().splitlines()]
    for line in lines:
        for name in ("seconds", "images_per_s", "data_wait_share"):
            del line[name]
    return (train / "network.safetensors").read_bytes(), lines


def main() -> None:
    """Run every scenario and print the tables of docs/reliability.md."""
    num_kills = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    print("| ranks | loader | ZeRO | kill points | bit-identical |\n|---|---|---|---|---|")
    outcomes = []
    for seed, scenario in enumerate(SCENARIOS):
        with tempfile.TemporaryDirectory(prefix="supnorm-reliability-") as folder:
            outcomes.append(survive(scenario, num_kills, Path(folder), seed))
        verdict = "yes" if outcomes[-1].is_identical else "NO"
        how = f"{scenario.num_ranks} | {scenario.loader} | {scenario.zero_stage}"
        print(f"| {how} | {num_kills} | {verdict} |", flush=True)
    print("\n| moment | killed | of these a rank | of these the runner |\n|---|---|---|---|")
    for moment in MOMENTS:
        kills = [kill for found in outcomes for kill in found.kills if kill.moment == moment]
        num_runners = sum(kill.victim == "the runner" for kill in kills)
        print(f"| {moment} | {len(kills)} | {len(kills) - num_runners} | {num_runners} |")
    sys.exit(0 if all(found.is_identical for found in outcomes) else 1)


if __name__ == "__main__":
    main()
