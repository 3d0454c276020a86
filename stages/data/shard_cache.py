"""Shards that lie elsewhere: fetched once through webdataset into a folder of this machine.

Random access needs a local file; a copy on every machine's own disk is also what keeps an epoch
from crossing the network again. A copy is kept if its checksum is the manifest's.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import StageError
from pipeline.files import temporary_path
from pipeline.ranks import Ranks
from stages.data.config import RemoteShards
from stages.data.manifest import Shard
from stages.data.shards import verify_shard

CHUNK_BYTES = 1 << 20
NUM_STREAMS = 4
"""Shards fetched at a time."""


def fetch_shards(remote: RemoteShards, shards: Iterable[Shard], ranks: Ranks) -> Path:
    """Fetch this rank's part of the shards that its machine lacks; the ranks of a machine share.

    Call `torch.distributed.barrier` before reading what the other ranks have fetched.

    Returns:
        The folder that holds them.

    Raises:
        StageError: a shard cannot be fetched, or is not the manifest's.
    """
    remote.cache_dir.mkdir(parents=True, exist_ok=True)
    own = list(shards)[ranks.local_rank :: ranks.local_world_size]
    with ThreadPoolExecutor(NUM_STREAMS) as pool:
        list(pool.map(lambda shard: _fetch(remote, shard), own))
    return remote.cache_dir


def _fetch(remote: RemoteShards, shard: Shard) -> None:
    path = remote.cache_dir / shard.name
    if path.exists() and path.stat().st_size == shard.num_bytes:
        return verify_shard(remote.cache_dir, shard)
    from webdataset.gopen import gopen  # noqa: PLC0415  costs a second, and few need it

    url = remote.url_of(shard.name)
    partial = temporary_path(path)
    try:
        with gopen(url, "rb") as source, partial.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
    except OSError as error:
        raise StageError(f"{url} cannot be fetched to {partial}: {error}") from None
    partial.replace(path)
    return verify_shard(remote.cache_dir, shard)
