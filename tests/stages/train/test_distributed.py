"""However training is distributed over ranks and ZeRO stages, the network is the same."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from stages.train.config import Settings

PROGRAM = Path(__file__).with_name("distributed_rank.py")
GRADIENTS = Path(__file__).with_name("gradient_rank.py")
# 200 images, 41 a step: five batches of 40 an epoch, of which 3 ranks get 14, 13 and 13. Widths are
# odd: no rank count divides the elements of a 13 x 13 weight.
HINGE = {"network": {"kind": "distance_mlp", "width": 13, "depth": 3}, "loss": {"kind": "hinge"}}
MIXTURE = {"network": HINGE["network"], "loss": {"kind": "mixture"}}
HYBRID = {
    "network": {"kind": "hybrid", "width": 13, "depth": 2, "hidden": 7},
    "loss": {"kind": "ibp"},
    "radius": {"kind": "linear", "epochs": 3},
}
KINDS = {"hinge": HINGE, "mixture": MIXTURE, "hybrid": HYBRID}
PHASES = {
    "p8": {"rise_epoch": 10, "infinite_epoch": 10},
    "rising": {"rise_epoch": 0, "infinite_epoch": 10},
    "infinity": {"rise_epoch": 0, "infinite_epoch": 0},
}
Spread = Callable[..., dict[str, dict[str, Tensor]]]


@pytest.fixture
def distributed(tmp_path: Path, data_dir: Path, tiny: Callable[..., Settings]) -> Spread:
    """`distributed(num_ranks, cases)`: what each case's training came to on so many ranks."""

    def run(num_ranks: int, cases: dict[str, dict[str, object]]) -> dict[str, dict[str, Tensor]]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        settings = {name: tiny(**case) for name, case in cases.items()}
        return run_ranks(PROGRAM, num_ranks, settings, data_dir, folder)

    return run


def run_ranks(
    program: Path,
    num_ranks: int,
    cases: dict[str, Settings],
    data_dir: Path,
    folder: Path,
    *options: str,
) -> dict[str, dict[str, Tensor]]:
    """What the first rank of `program` has written for each case."""
    texts = {name: case.model_dump(mode="json") for name, case in cases.items()}
    (folder / "cases.json").write_text(json.dumps(texts))
    command, port = [sys.executable, program], free_port()
    ranks = [
        subprocess.Popen(
            [*command, data_dir, folder, folder / "cases.json", *options],
            env=environment(rank, num_ranks, port),
        )
        for rank in range(num_ranks)
    ]
    assert [rank.wait(timeout=600) for rank in ranks] == [0] * num_ranks
    return {name: load_file(folder / f"{name}.safetensors") for name in cases}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(rank: int, num_ranks: int, port: int) -> dict[str, str]:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
    return {
        **os.environ,
        **{name: str(value) for name, value in places.items()},
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }


def case(kind: str, phase: str, zero_stage: int = 0, **changes: object) -> dict[str, object]:
    return {
        **KINDS[kind],
        "schedule": {"epochs": 10},
        "rule": PHASES[phase],
        "batch_size": 41,
        # Wide enough that the mixture's clip leaves most images their gradient from the start.
        "eps_train": "1/5",
        "distributed": {"zero_stage": zero_stage, "bucket_elements": 1000},
        **changes,
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    difference = (found["losses"] / expected["losses"] - 1).abs().max()
    assert difference <= 1e-5, f"{name}: a loss is off by {difference:.1e} of it"
    for key, tensor in expected.items():
        if key.startswith("objective."):
            difference = (found[key] - tensor).abs().max() / tensor.abs().max()
            assert difference <= 1e-4, f"{name}: {key} is off by {difference:.1e} of its largest"


def test_gradients_of_three_ranks_are_those_of_one_batch_in_float64(
    tmp_path: Path, data_dir: Path, tiny: Callable[..., Settings]
) -> None:
    """Unequal shares weigh as they should: what differs in float32 is rounding."""
    cases = {f"{kind} {phase}": tiny(**case(kind, phase)) for kind in KINDS for phase in PHASES}
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    expected = run_ranks(GRADIENTS, 1, cases, data_dir, alone)
    for name, found in run_ranks(GRADIENTS, 3, cases, data_dir, shared).items():
        for key, tensor in expected[name].items():
            difference = (found[key] - tensor).abs().max()
            assert difference <= 1e-12 * tensor.abs().max(), f"{name}: {key}"


def test_two_ranks_train_the_network_of_one_at_zero_0_and_3(distributed: Spread) -> None:
    kinds = [("mixture", "rising"), ("hybrid", "infinity")]
    alone = distributed(1, {kind: case(kind, phase) for kind, phase in kinds})
    for stage in (0, 3):
        shared = distributed(2, {kind: case(kind, phase, stage) for kind, phase in kinds})
        for kind, found in shared.items():
            assert_same(found, alone[kind], f"{kind} at ZeRO {stage}")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_any_stage_on_any_number_of_ranks_trains_the_same_network(distributed: Spread) -> None:
    kinds = [(kind, phase) for kind in ("mixture", "hybrid") for phase in PHASES]
    alone = distributed(1, {f"{kind} {phase} 0": case(kind, phase) for kind, phase in kinds})
    for num_ranks in (1, 2, 3, 4):
        shared = distributed(
            num_ranks,
            {
                f"{kind} {phase} {stage}": case(kind, phase, stage)
                for kind, phase in kinds
                for stage in range(4)
            },
        )
        for name, found in shared.items():
            assert_same(found, alone[f"{name[:-1]}0"], f"{name} on {num_ranks} ranks")


@pytest.mark.slow
def test_streaming_and_augmentation_do_not_depend_on_the_ranks(distributed: Spread) -> None:
    streamed = {"loader": "streaming", "shuffle_window": 64}
    resident = {"loader": "resident", "shuffle_window": 64}
    alone = distributed(1, {"one": case("hinge", "rising", **resident)})["one"]
    for num_ranks in (1, 2, 3, 4):
        found = distributed(num_ranks, {"one": case("hinge", "rising", **streamed)})["one"]
        assert_same(found, alone, f"streamed by {num_ranks} ranks")
