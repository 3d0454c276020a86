"""How often a run on other ranks leaves the tolerance, beside a lone run whose weights are nudged.

    python -m tests.stages.train.last_bits [SEEDS]

Prints of how many seeds 50 steps stay within 1e-5 (losses) and 1e-4 (weights) of a lone rank's. The
nudged run is a lone rank that starts a last bit away: as near as two runs that round differently
can be. Where it leaves the tolerance, training itself does, not the sharing.
"""

import sys
import tempfile
from pathlib import Path

from torch import Tensor

from tests.stages.train.conftest import tiny_settings, write_shards
from tests.stages.train.test_distributed import PROGRAM, assert_same, case, run_ranks

RUNS = {"1 rank, nudged": (1, "nudged"), "2 ranks": (2,), "3 ranks": (3,)}


def main() -> None:
    """Print the table of docs/scaling.md."""
    num_seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    cases = {
        str(seed): tiny_settings(**case("mixture", "rising", seed=seed))
        for seed in range(num_seeds)
    }
    with tempfile.TemporaryDirectory(prefix="supnorm-last-bits-") as place:
        folder = Path(place)
        write_shards(folder)
        alone = run_ranks(PROGRAM, 1, cases, folder, folder)
        print("| beside a lone rank | trainings | outside the tolerance |\n|---|---|---|")
        for name, (num_ranks, *options) in RUNS.items():
            found = run_ranks(PROGRAM, num_ranks, cases, folder, folder, *options)
            num_outside = sum(is_outside(found[key], alone[key]) for key in cases)
            print(f"| {name} | {len(cases)} | {num_outside} |", flush=True)


def is_outside(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    try:
        assert_same(found, expected, "")
    except AssertionError:
        return True
    return False


if __name__ == "__main__":
    main()
