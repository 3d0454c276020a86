import gzip
import hashlib
import shutil
from pathlib import Path

import pytest

from pipeline.errors import StageError, UserError
from stages.data.catalogue import CATALOGUE
from stages.data.dataset import Dataset, PublishedFile, read_content
from stages.data.fetch import fetch

CONTENTS = {"images": b"pixels" * 1000, "labels": b"0123456789"}


@pytest.fixture
def toy() -> Dataset:
    """A dataset that no registry has, so that only our own `apt-get` can fetch it."""
    files = tuple(
        PublishedFile(name, f"sha256:{hashlib.sha256(content).hexdigest()}")
        for name, content in CONTENTS.items()
    )
    return Dataset(
        name="toy", title="Toy", format="idx", train_files=files, debian_package="dataset-toy"
    )


def write_files(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))


@pytest.fixture
def debian_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose contents become the package that `apt-get download` delivers."""
    if not shutil.which("dpkg-deb"):
        pytest.skip("needs Debian's dpkg-deb")
    root, tools = tmp_path / "package", tmp_path / "tools"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: dataset-toy\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <x@example.org>\n"
        "Description: toy\n"
    )
    tools.mkdir()
    apt = tools / "apt-get"
    apt.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = update ]; then touch {tmp_path}/lists; exit 0; fi\n'
        f'if [ ! -e {tmp_path}/lists ]; then echo "E: Unable to locate package $2"; exit 100; fi\n'
        f"exec dpkg-deb --build {root} dataset-toy_1_all.deb\n"
    )
    apt.chmod(0o755)
    monkeypatch.setenv(
        "PATH", f"{tools}:{Path(shutil.which('dpkg-deb') or '').parent}:/usr/bin:/bin"
    )
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return root


def test_files_come_out_of_a_debian_package(
    toy: Dataset, debian_mirror: Path, tmp_path: Path
) -> None:
    write_files(debian_mirror / "usr" / "share" / "datasets", CONTENTS)
    assert fetch(toy, tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["images.gz", "labels.gz"]
    for published in toy.files:
        content = read_content(tmp_path / "data" / f"{published.name}.gz")
        assert published.has_content(content)


def test_without_root_empty_package_lists_are_reported(
    toy: Dataset, debian_mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(StageError, match="E: Unable to locate package dataset-toy"):
        fetch(toy, tmp_path / "data")


def test_a_package_with_another_file_leaves_nothing(
    toy: Dataset, debian_mirror: Path, tmp_path: Path
) -> None:
    write_files(debian_mirror / "usr", {**CONTENTS, "labels": b"0123456780"})
    with pytest.raises(StageError, match="labels: what came is not the published file"):
        fetch(toy, tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_package_without_a_file_says_so(
    toy: Dataset, debian_mirror: Path, tmp_path: Path
) -> None:
    write_files(debian_mirror / "usr", {"images": CONTENTS["images"]})
    with pytest.raises(StageError, match="labels: it was not in what came"):
        fetch(toy, tmp_path / "data")


def test_a_wrong_file_is_replaced(toy: Dataset, debian_mirror: Path, tmp_path: Path) -> None:
    write_files(debian_mirror / "usr", CONTENTS)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "labels").write_bytes(b"0123456780")
    (tmp_path / "data" / "images.gz").write_bytes(b"no gzip at all")
    assert fetch(toy, tmp_path / "data")
    assert not fetch(toy, tmp_path / "data")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_files_that_are_right_are_left_alone(toy: Dataset, tmp_path: Path, suffix: str) -> None:
    for name, content in CONTENTS.items():
        stored = gzip.compress(content) if suffix else content
        (tmp_path / f"{name}{suffix}").write_bytes(stored)
    assert not fetch(toy, tmp_path)


def test_when_every_way_fails_each_failure_is_told(
    toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StageError) as caught:
        fetch(toy, tmp_path / "data")
    for part in (
        "no apt on this machine",
        "torchvision: it has no",
        "copy the files into",
        "images",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ["tinyimagenet", "imagenet64"])
def test_a_dataset_to_fetch_by_hand_says_where_its_files_go(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"by hand: .*unpack") as caught:
        fetch(CATALOGUE[name], tmp_path)
    assert str(tmp_path) in str(caught.value)
