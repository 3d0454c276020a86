"""Brings a data set's published files onto this machine, verified by checksum.

They come from the Debian package that the data set names where apt is there, else through
torchvision's own download, which knows the publishers' addresses and unpacks what they send.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from pipeline.errors import StageError, UserError
from stages.data.dataset import Dataset, read_content

_APT_TIMEOUT_S = 300


def fetch(dataset: Dataset, to: Path) -> bool:
    """Bring a data set's published files into a folder, verified by checksum.

    Each file appears under its final name only once it is whole and right.

    Args:
        dataset: an entry of the catalogue.
        to: the folder that the shard stage will read as its `source`.

    Returns:
        False if every file was there and right, so that there was nothing to do.

    Raises:
        UserError: the data set can only be fetched by hand.
        StageError: no way of fetching worked; each one's failure is in the message.
    """
    if not dataset.is_fetchable:
        advice = dataset.by_hand.format(dir=to)
        raise UserError(f"{dataset.title} must be fetched by hand: {advice}")
    if _has_every_file(dataset, to):
        return False
    to.mkdir(parents=True, exist_ok=True)
    failures = []
    for way in (_unpack_debian_package, _download_with_torchvision):
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=to) as temp:
            try:
                way(dataset, Path(temp))
                _move_verified_files(dataset, Path(temp), to)
            except StageError as error:
                failures.append(f"  {error}")
            else:
                return True
    names = ", ".join(file.name for file in dataset.files)
    raise StageError(
        f"{dataset.title} could not be fetched:\n"
        + "\n".join(failures)
        + f"\nConnect this machine and try again, or copy the files into {to} by hand "
        f"(each plain or as .gz): {names}"
    )


def _has_every_file(dataset: Dataset, folder: Path) -> bool:
    for published in dataset.files:
        path = published.find(folder)
        try:
            if path is None or not published.has_content(read_content(path)):
                return False
        except StageError:
            return False
    return True


def _unpack_debian_package(dataset: Dataset, temp: Path) -> None:
    package = dataset.debian_package
    if package is None or not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise StageError("Debian package: none for this data set, or no apt on this machine")
    download = ["apt-get", "download", package]
    try:
        _command(download, temp)
    except StageError:
        if os.geteuid() != 0:
            raise
        _command(["apt-get", "update"], temp)  # a fresh machine has empty package lists
        _command(download, temp)
    for archive in temp.glob("*.deb"):
        _command(["dpkg", "-x", archive.name, "."], temp)


def _command(arguments: list[str], cwd: Path) -> None:
    """Run a command quietly; what it printed becomes the error's text."""
    try:
        subprocess.run(
            arguments,
            cwd=cwd,
            check=True,
            timeout=_APT_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.CalledProcessError as error:
        said = error.stdout.strip().splitlines()[-1:] or [f"exit {error.returncode}"]
        raise StageError(f"Debian package: `{' '.join(arguments)}` failed: {said[0]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StageError(f"Debian package: `{' '.join(arguments)}` failed: {error}") from error


def _download_with_torchvision(dataset: Dataset, temp: Path) -> None:
    if dataset.torchvision_class is None:
        raise StageError("torchvision: it has no download of this data set")
    from torchvision import datasets  # noqa: PLC0415  seconds that no other way need pay

    download: Callable[..., object] = getattr(datasets, dataset.torchvision_class)
    try:
        download(root=str(temp), download=True)
    except (OSError, RuntimeError) as error:
        said = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise StageError(f"torchvision's download failed: {said[0]}") from error


def _move_verified_files(dataset: Dataset, temp: Path, to: Path) -> None:
    """Verify every file below `temp`, then rename them into `to` (the same file system)."""
    found = {}
    for published in dataset.files:
        names = (published.name, f"{published.name}.gz")
        paths = [path for path in sorted(temp.rglob("*")) if path.name in names and path.is_file()]
        right = [path for path in paths if published.has_content(read_content(path))]
        if not right:
            raise StageError(
                f"{published.name}: what came is not the published file ({published.digest})"
                if paths
                else f"{published.name}: it was not in what came"
            )
        found[published] = right[0]
    for published, path in found.items():
        wrong = published.find(to)
        path.replace(to / path.name)
        if wrong is not None and wrong != to / path.name:
            wrong.unlink()
