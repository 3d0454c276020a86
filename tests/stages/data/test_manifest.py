import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StageError
from stages.data.manifest import (
    Manifest,
    Shard,
    image_index,
    image_key,
    read_manifest,
    write_manifest,
)

WriteArtifact = Callable[..., tuple[Path, Manifest]]


def test_a_manifest_comes_back_as_it_was_written(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 20, "test": 9})
    assert read_manifest(data_dir) == manifest


def test_writing_leaves_one_file(write_artifact: WriteArtifact, tmp_path: Path) -> None:
    _, manifest = write_artifact({"train": 20})
    write_manifest(tmp_path, manifest)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["manifest.json"]


def test_an_image_is_named_by_split_and_position() -> None:
    assert image_key("test", 123) == "test-000123"
    assert image_index(image_key("train", 1_281_166)) == 1_281_166


def test_a_missing_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"manifest\.json: cannot be read .* run the shard stage"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry["splits"]["train"].update(num_images=21),
        lambda entry: entry["splits"]["train"]["shards"][0].update(num_images=15),
        lambda entry: entry["splits"]["train"]["shards"].pop(),
        lambda entry: entry.pop("classes"),
        lambda entry: entry.update(std=0.0),
        lambda entry: entry["splits"]["train"]["shards"][0].update(name="../train.tar"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    write_artifact: WriteArtifact, damage: Callable[[dict[str, Any]], object]
) -> None:
    data_dir, _ = write_artifact({"train": 20})
    path = data_dir / "manifest.json"
    entry = json.loads(path.read_text())
    damage(entry)
    path.write_text(json.dumps(entry))
    with pytest.raises(StageError, match=r"manifest\.json: damaged at"):
        read_manifest(data_dir)


@pytest.mark.parametrize("name", ["pipe:cat x.tar", "a/b.tar", "http://host/x.tar", "x.tar;y.tar"])
def test_a_shard_name_can_be_nothing_but_a_file_name(name: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Shard(name=name, num_images=0, num_bytes=0, sha256="", blocks=())


def test_a_split_that_is_not_there_names_those_that_are(write_artifact: WriteArtifact) -> None:
    _, manifest = write_artifact({"train": 20, "test": 9})
    with pytest.raises(StageError, match=r"no split 'validation', only train, test"):
        manifest.split("validation")
