"""What a stage ran on: host, processor, memory, GPUs, package versions, the state of the code."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from pipeline.files import FrozenModel

DISTRIBUTION = "supnorm"
"""The project as it is installed: the versions of all that it depends on are recorded."""


class Machine(FrozenModel):
    """The computer that a stage ran on."""

    host: str
    system: str
    cpu: str
    num_cores: int
    """Cores that this process may use."""
    memory_bytes: int
    gpus: tuple[str, ...]


@cache
def this_machine() -> Machine:
    """Describe this computer; asks nvidia-smi for the GPUs, so no torch is needed."""
    return Machine(
        host=socket.gethostname(),
        system=f"{platform.system()} {platform.release()}",
        cpu=_cpu_model(),
        num_cores=num_cores(),
        memory_bytes=_memory_bytes(),
        gpus=gpus(),
    )


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def gpus() -> tuple[str, ...]:
    """The model of each CUDA device that a stage would see."""
    if not shutil.which("nvidia-smi"):
        return ()
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    models = tuple(re.findall(r"^GPU \d+: (.*?) \(UUID", listing, re.MULTILINE))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return models
    chosen = [part for part in visible.split(",") if part.strip() and part.strip() != "-1"]
    return models[: len(chosen)]


def package_versions() -> dict[str, str]:
    """The versions of Python and of the packages that the project declares to need."""
    versions = {"python": platform.python_version()}
    for name in _required_packages():
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _required_packages() -> list[str]:
    try:
        declared = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", text)[0] for text in declared if "extra ==" not in text]


def git_state(package: str) -> tuple[str | None, bool]:
    """The commit that a package's sources stand at, and whether they differ from it.

    Returns:
        (None, False) where the sources are in no git repository.
    """
    found = importlib.util.find_spec(package)
    assert found and found.submodule_search_locations, f"{package} must be a package"
    folder = Path(next(iter(found.submodule_search_locations)))
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None, False
    return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        facts = ""
    found = re.search(r"^model name\s*: (.*)$", facts, re.MULTILINE)
    return found[1] if found else platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return 0
