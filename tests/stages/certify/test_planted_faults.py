"""Faults that make certificates wrong, each planted in a copy of the code: a test must fail.

A fault that stays unseen says that a test is missing, not that the code is right.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

FAULTS = {
    "equality certifies, in the verdict": (
        "stages/certify/batch_certifier.py",
        "self._settings.eps < radius",
        "self._settings.eps <= radius",
        "certify/test_verdicts.py",
    ),
    "equality certifies, in the record": (
        "stages/data/records.py",
        "return eps < self.exact_radius",
        "return eps <= self.exact_radius",
        "data/test_records.py",
    ),
    "equality certifies, in the exact box": (
        "stages/models/linf/heads/distance.py",
        "torch.where(lead > 0, half_units // 2 * 2 + lead, 0)",
        "torch.where(lead >= 0, half_units // 2 * 2 + lead, 0)",
        "models/test_exact_prover.py",
    ),
    "equality certifies, when counting": (
        "stages/models/validation.py",
        "sum(eps < radius for",
        "sum(eps <= radius for",
        "models/test_validation.py",
    ),
    "equality certifies, at a level of the grid": (
        "stages/models/linf/float_prover.py",
        "math.nextafter(largest_float_up_to(eps), math.inf)",
        "largest_float_up_to(eps)",
        "certify/test_radius_search.py",
    ),
    "slack dropped, by margin": (
        "stages/models/linf/heads/distance.py",
        "margin_radius(margin(logits, labels), self._slack, self._std)",
        "margin_radius(margin(logits, labels), 0.0, self._std)",
        "models/test_float_prover.py",
    ),
    "slack dropped, by box": (
        "stages/models/linf/heads/distance.py",
        "(lead > self._slack)",
        "(lead > 0)",
        "models/test_float_prover.py",
    ),
    "lower and upper swapped, exact": (
        "stages/models/linf/heads/distance.py",
        "_lead(box.upper.long(), box.lower.long(), labels)",
        "_lead(box.lower.long(), box.upper.long(), labels)",
        "models/test_exact_prover.py",
    ),
    "lower and upper swapped, float": (
        "stages/models/linf/heads/distance.py",
        "upper.scatter(1, labels[:, None], lower.gather(1, labels[:, None]))",
        "lower.scatter(1, labels[:, None], upper.gather(1, labels[:, None]))",
        "models/test_float_prover.py",
    ),
    "valid pixels forgotten, exact": (
        "stages/models/linf/exact_prover.py",
        ".clamp(max=self._network.units_per_pixel)",
        "",
        "models/test_exact_prover.py",
    ),
    "valid pixels forgotten, float": (
        "stages/models/linf/ball.py",
        "(pixels + reach).clamp(max=1)",
        "(pixels + reach)",
        "certify/test_ball.py",
    ),
    "running means of training used": (
        "stages/models/linf/running_means.py",
        "running_mean.copy_(sums[:-1] / sums[-1])",
        "pass",
        "models/test_running_means.py",
    ),
    "certified in training mode": (
        "stages/models/linf/float_prover.py",
        "if network.training:",
        "if False:",
        "models/test_float_prover.py",
    ),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The stages and their tests; kernels and pipeline are used where they are."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("stages", "tests/stages"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run_tests(copy, *names):
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*words, *(f"tests/stages/{name}" for name in names)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": f"{copy}:{ROOT}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_fault_the_same_tests_pass(copy):
    done = run_tests(copy, *sorted({tests for *_, tests in FAULTS.values()}))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_makes_a_test_fail(copy, fault):
    source, right, wrong, tests = FAULTS[fault]
    path = copy / source
    text = path.read_text()
    assert text.count(right) == 1, f"{source} has changed: plant this fault where it is now"
    path.write_text(text.replace(right, wrong))
    done = run_tests(copy, tests)
    path.write_text(text)
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout + done.stderr
