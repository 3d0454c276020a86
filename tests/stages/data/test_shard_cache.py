import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.data.config import RemoteShards
from stages.data.manifest import Manifest
from stages.data.shard_cache import fetch_shards

WriteArtifact = Callable[..., tuple[Path, Manifest]]


@pytest.fixture
def artifact(write_artifact: WriteArtifact) -> tuple[Path, Manifest]:
    return write_artifact({"train": 64})


@pytest.fixture
def served(artifact: tuple[Path, Manifest]) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=artifact[0])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def fetched(artifact: tuple[Path, Manifest], cache_dir: Path, url: str, **settings: bool) -> bool:
    """Whether all shards came whole."""
    data_dir, manifest = artifact
    shards = manifest.split("train").shards
    fetch_shards(RemoteShards(url=url, cache_dir=cache_dir, **settings), shards, Ranks())
    return all(
        (cache_dir / shard.name).read_bytes() == (data_dir / shard.name).read_bytes()
        for shard in shards
    )


def test_shards_come_from_a_folder_a_server_and_a_command(artifact, served, tmp_path) -> None:
    assert fetched(artifact, tmp_path / "a", f"file:{artifact[0]}")
    assert fetched(artifact, tmp_path / "b", served)
    assert fetched(artifact, tmp_path / "c", f"pipe:cat {artifact[0]}/{{shard}}", allow_pipe=True)


def test_what_is_there_is_not_fetched_again(artifact, tmp_path) -> None:
    assert fetched(artifact, tmp_path / "a", f"file:{artifact[0]}")
    assert fetched(artifact, tmp_path / "a", "file:/nowhere")


@pytest.mark.parametrize("url", ["file:/nowhere", "http://127.0.0.1:9/"])
def test_a_place_that_does_not_answer_is_named(artifact, tmp_path, url: str) -> None:
    with pytest.raises(
        StageError, match=rf"{url.rstrip('/')}/train-00000\d\.tar cannot be fetched"
    ):
        fetched(artifact, tmp_path / "a", url)


def test_a_damaged_copy_is_named(artifact, tmp_path, flip_byte) -> None:
    flip_byte(artifact[0] / "train-000001.tar", 800)
    with pytest.raises(StageError, match=r"train-000001\.tar is damaged"):
        fetched(artifact, tmp_path / "a", f"file:{artifact[0]}")


@pytest.mark.parametrize(
    "url, message",
    [
        ("pipe:cat {shard}", "runs a shell; say allow_pipe: true"),
        ("/data/shards", "starts with none of file:, http"),
        ("s3://bucket", "starts with none of"),
    ],
)
def test_other_urls_are_refused(tmp_path, url: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RemoteShards(url=url, cache_dir=tmp_path)
