"""Every shipped config is right, and found to be so without torch."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PROGRAM = """
import sys
from pipeline.cli import main
sys.argv = ["pipeline", "check", sys.argv[1]]
try:
    main()
finally:
    heavy = {"torch", "numpy", "deepspeed", "webdataset"} & sys.modules.keys()
    print("imported:", *sorted(heavy))
"""


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_check_passes_and_imports_no_torch(config: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    stages = r"shard -> train -> (prune -> )?certify -> (certify_pruned -> )?report"
    assert re.search(stages, done.stdout)
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_what_it_is_its_command_cost_and_results(config: Path) -> None:
    opening = config.read_text().split("\n\n")[0]
    for part in (
        f"python -m pipeline run configs/{config.name}",
        "Cost:",
        "Reached:",
        "Published:",
    ):
        assert part in opening
