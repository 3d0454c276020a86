"""Faults planted in the kernels are found: what passes on the shim has been looked at."""

import shutil
from pathlib import Path

import pytest
import torch

from kernels import reference
from kernels.cuda import gradients, operators
from kernels.cuda.catalogue import all_kernels
from kernels.cuda.kernel import SOURCE_DIR, Kernel
from tests.kernels.cuda.shim import HostShim

BARRIER, WAIT = "      sync_block();", "      wait_copies<T::kStages - 2>();"


def planted(
    shim: HostShim, tmp_path: Path, name: str, before: str, after: str, kernels: list[Kernel]
) -> HostShim:
    """Compile kernels from sources in which one thing is changed; the rest is the shim's."""
    source_dir = tmp_path / "cuda"
    shutil.copytree(SOURCE_DIR, source_dir)
    text = (source_dir / name).read_text()
    assert before in text
    (source_dir / name).write_text(text.replace(before, after, 1))
    return HostShim(kernels, 1, source_dir, tmp_path, shim)


def of(source: str, *parts: str) -> list[Kernel]:
    """The kernels of a source whose names have one of the parts."""
    mine = [kernel for kernel in all_kernels((8,)) if kernel.source == source]
    return [kernel for kernel in mine if any(part in kernel.expression for part in parts)]


def linf_is_right(shim: HostShim) -> bool:
    x, weight = torch.randn(70, 333), torch.randn(45, 333)
    x[:, -1] += 100
    exact = reference.linf_distance(x, weight, 1)
    results = []
    for shim.is_ascending in (True, False):
        results.append(torch.equal(operators.linf_distance(shim, x, weight, 1), exact))
    return all(results)


def gradients_are_right(shim: HostShim) -> bool:
    grad, x, weight = torch.randn(70, 45), torch.randn(70, 32), torch.randn(45, 32)
    distance = reference.lp_distance(x, weight, 8.0, 1)
    exact = reference.lp_distance_backward(grad, x, weight, distance, 8.0, 1)
    results = []
    for shim.is_ascending in (True, False):
        ours = gradients.lp_distance_backward(shim, grad, x, weight, distance, 8.0, 1, [True, True])
        results += [torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, exact, strict=True)]
    return all(results)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BARRIER, ""),
        (WAIT, ""),
        ("wait_copies<T::kStages - 2>()", "wait_copies<T::kStages - 1>()"),
        ("&& input < inputs", "&& input < inputs - 1"),
        ("row < rows_left", "row < rows_left - 1"),
    ],
    ids=[
        "no barrier",
        "no wait",
        "wait for too little",
        "last input left out",
        "last row left out",
    ],
)
def test_faults_in_the_loop_over_inputs_are_found(
    compiled_shim: HostShim, tmp_path: Path, before: str, after: str
) -> None:
    kernels = of("linf_distance", "linf_distance<")
    shim = planted(compiled_shim, tmp_path, "tiles.h", before, after, kernels)
    assert not linf_is_right(shim)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    wait_copies<0>();\n    sync_block();", "    wait_copies<0>();"),
        ("    wait_copies<0>();", ""),
        ("  sync_block();\n  if (first < last", "  if (first < last"),
        ("first + (step ^ lanes.order)", "first + step"),
        ("sums + slot * kColFloats +", "sums +"),
        ("output >= a.outputs", "output >= a.outputs - 1"),
    ],
    ids=[
        "no barrier",
        "no wait",
        "no barrier at the end",
        "lanes out of order",
        "one buffer for two stages",
        "last output left out",
    ],
)
def test_faults_in_the_backward_pass_are_found(
    compiled_shim: HostShim, tmp_path: Path, before: str, after: str
) -> None:
    source = "lp_distance_backward"
    kernels = of(source, "EvenSlope<8>")
    shim = planted(compiled_shim, tmp_path, f"{source}.cu", before, after, kernels)
    assert not gradients_are_right(shim)


def test_without_a_fault_nothing_is_found(compiled_shim: HostShim) -> None:
    compiled_shim.num_processors = 1
    assert linf_is_right(compiled_shim)
    assert gradients_are_right(compiled_shim)
