import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kernels
from kernels import compiler
from kernels.backend import available_cpu_kernels, cpu_kernels

TESTS_DIR = Path(__file__).parent
UNCHECKED = ("test_backend.py", "test_schema.py")
"""They start processes and torch's compiler, which are not ours to check."""

PACKAGE_DIR = Path(kernels.__file__).parent

PROGRAM = """
import torch, kernels
x, weight = torch.eye(3), torch.zeros(2, 3)
print(kernels.backend().cpu, kernels.linf_distance(x, weight).sum().item())
"""


def run_program(
    cwd: Path = PACKAGE_DIR.parent, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the program with the package that lies in ``cwd``."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.skipif(not available_cpu_kernels(), reason="the kernels are not compiled here")
def test_the_best_available_kernels_are_in_use() -> None:
    assert kernels.backend().cpu == available_cpu_kernels()[0]
    assert "portable" in available_cpu_kernels()


def test_chosen_kernels_are_in_use_until_the_end_of_the_block() -> None:
    before = kernels.backend()
    for name in available_cpu_kernels():
        with cpu_kernels(name):
            assert kernels.backend().cpu == name
    assert kernels.backend() == before


def test_unknown_kernels_are_refused_with_the_names_of_the_known() -> None:
    with pytest.raises(ValueError, match="'avx1024' are not available"), cpu_kernels("avx1024"):
        pass


def test_the_environment_chooses_the_kernels() -> None:
    assert run_program(SUPNORM_KERNELS="reference").stdout == "reference 6.0\n"


def copy_package(folder: Path, *ignored: str) -> Path:
    """Copy the package into a folder; return where the copy keeps what is compiled."""
    ignore = shutil.ignore_patterns("__pycache__", *ignored)
    copy = shutil.copytree(PACKAGE_DIR, folder / "kernels", ignore=ignore)
    return copy / "_build"


@pytest.mark.skipif(not available_cpu_kernels(), reason="the kernels are not compiled here")
@pytest.mark.parametrize("environment", [{}, {"CXX": "", "PATH": "/nowhere"}])
def test_a_copy_of_the_package_compiles_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    libraries = copy_package(tmp_path)
    before = sorted(libraries.iterdir())
    result = run_program(tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"), **environment)
    assert result.stdout == f"{available_cpu_kernels()[0]} 6.0\n"
    assert result.stderr == ""
    assert sorted(libraries.iterdir()) == before
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(not available_cpu_kernels(), reason="the kernels are not compiled here")
def test_a_library_beside_sources_that_cannot_be_written_to_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = compiler.library()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert compiler.build_dir() != PACKAGE_DIR / "_build"
    assert compiler.library() == before


def test_without_a_compiler_the_reference_serves_and_says_so_once(tmp_path: Path) -> None:
    copy_package(tmp_path, "_build")
    nowhere = str(tmp_path / "nowhere")
    result = run_program(tmp_path, CXX="", PATH=nowhere, XDG_CACHE_HOME=nowhere)
    assert result.stdout == "reference 6.0\n"
    assert len(result.stderr.splitlines()) == 1
    assert "no C++ compiler found; install g++" in result.stderr


def test_a_compiler_that_fails_is_reported_with_its_output(tmp_path: Path) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(compiler.BuildError, match="no space left"):
        compiler.build(compiler.Toolchain(str(broken)))


def test_flags_and_compiler_are_part_of_the_librarys_name(tmp_path: Path) -> None:
    other = tmp_path / "c++"
    other.write_text("#!/bin/sh\necho another compiler\n")
    other.chmod(0o755)
    names = {
        compiler.library_path(toolchain)
        for toolchain in (
            compiler.Toolchain(str(other)),
            compiler.Toolchain(str(other), ("-g",)),
            compiler.Toolchain("/bin/true"),
        )
    }
    assert len(names) == 3


@pytest.mark.skipif(not available_cpu_kernels(), reason="the kernels are not compiled here")
def test_threads_are_those_of_torch() -> None:
    """A second OpenMP runtime would mean a second pool of threads, fighting for the same cores."""
    kernels.linf_distance(torch.randn(200, 300), torch.randn(200, 300))
    loaded = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    assert len([path for path in loaded if "libgomp" in path or "libomp" in path]) <= 1


def test_build_says_what_it_was_built_for_and_where_it_is(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kernels.build"], capture_output=True, text=True, check=True
    )
    for_cpu, for_gpu = result.stdout.splitlines()
    assert for_cpu.startswith("kernels: already built for portable")
    assert "CUDA kernels" in for_gpu
    path = Path(for_cpu.split("cached in ")[1])
    assert path == compiler.library_path(compiler.default_toolchain()) and path.is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_operators_pass_their_tests_under_sanitizers() -> None:
    """Every access to memory and every integer sum of every variant is checked."""
    build = subprocess.run(
        [sys.executable, "-m", "kernels.build", "--sanitize", "address,undefined"],
        capture_output=True,
        text=True,
        check=True,
    )
    environment = dict(line.split("=", 1) for line in build.stdout.splitlines())
    names = [path.name for path in TESTS_DIR.glob("test_*.py") if path.name not in UNCHECKED]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *sorted(names)],
        cwd=TESTS_DIR,
        env={**os.environ, **environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
