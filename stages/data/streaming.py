"""Training batches read from shards as they are needed, for data larger than memory.

Every epoch the shards are put in a new order by (seed, epoch) and dealt out whole, equally many to
each worker of each rank. A worker verifies a shard's checksum before webdataset sees a byte of it
(webdataset itself passes damaged tar files silently), mixes a pool of images, and cuts batches.

Every rank makes the same number of steps, computed from the manifest alone. What does not fit is
left out, and is other images in every epoch: shards beyond a multiple of ranks * workers, and each
worker's last, incomplete batch. Many equal shards keep that small.

The order depends on the number of ranks and workers too; `ResidentBatches` does not have that flaw.
"""

import io
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from webdataset.filters import pipelinefilter
from webdataset.tariterators import group_by_keys, tar_file_expander

from pipeline.errors import StageError, UserError
from pipeline.ranks import Ranks
from stages.data.batches import ALONE, Batch, local_batch_size
from stages.data.draws import Purpose, draw, permutation
from stages.data.manifest import Manifest, Shard, image_index
from stages.data.shards import Sample, read_shard

POOL_IMAGES = 4096
"""Images that a worker mixes at a time; the shards are shuffled as a whole already."""


class StreamingBatches:
    """Training batches read through webdataset by this rank's workers."""

    def __init__(
        self,
        data_dir: Path,
        manifest: Manifest,
        split: str,
        global_batch: int,
        seed: int,
        ranks: Ranks = ALONE,
        num_workers: int = 0,
    ) -> None:
        """Deal the shards of a split out to `num_workers` processes a rank (0: this process reads).

        Raises:
            UserError: too few shards or images for that many ranks and workers, or the ranks cannot
                share a batch equally.
            StageError: there is no such split.
        """
        self._data_dir, self._manifest, self._ranks = data_dir, manifest, ranks
        self._split, self._seed, self._num_workers = manifest.split(split), seed, num_workers
        self._local_batch = local_batch_size(global_batch, ranks)
        self._readers = max(1, num_workers)
        self._shards_per_reader = self._count_shards_per_reader(split)
        self._steps_per_reader = self._count_steps_per_reader(split, global_batch)

    @property
    def num_images(self) -> int:
        """Images of the split."""
        return self._split.num_images

    @property
    def steps_per_epoch(self) -> int:
        """Batches that every rank gets in every epoch, whichever shards it is dealt."""
        return self._readers * self._steps_per_reader

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """This rank's share of each global batch of an epoch, in memory of the CPU.

        Raises:
            StageError: a shard is missing or damaged.
        """
        whole_rounds, rest = divmod(start_step, self._readers)
        stream = _Stream(
            data_dir=self._data_dir,
            shards=self._dealt_shards(epoch),
            channels=self._manifest.image_shape[2],
            batch_size=self._local_batch,
            num_skipped=whole_rounds,
            num_steps=self._steps_per_reader,
            seed=self._seed,
            epoch=epoch,
        )
        loader = DataLoader(
            _StreamDataset(stream),
            batch_size=None,
            num_workers=self._num_workers,
            collate_fn=_as_it_is,
        )
        for number, batch in enumerate(loader):
            if isinstance(batch, StageError):
                raise batch
            if number >= rest:
                yield batch

    def _dealt_shards(self, epoch: int) -> tuple[tuple[Shard, ...], ...]:
        """The shards of each of this rank's readers in this epoch."""
        order = permutation(len(self._split.shards), Purpose.SHARD_ORDER, self._seed, epoch)
        num_readers = self._ranks.world_size * self._readers
        first = self._ranks.rank * self._readers
        return tuple(
            tuple(
                self._split.shards[i] for i in order[reader::num_readers][: self._shards_per_reader]
            )
            for reader in range(first, first + self._readers)
        )

    def _count_shards_per_reader(self, split: str) -> int:
        num_readers = self._ranks.world_size * self._readers
        num_shards = len(self._split.shards)
        if num_shards < num_readers:
            pixels = self.num_images * int(np.prod(self._manifest.image_shape))
            raise UserError(
                f"streaming on {self._ranks.world_size} ranks with {self._readers} readers each "
                f"needs {num_readers} shards, the {split} split has {num_shards}; set shard_bytes "
                f"of the shard stage to at most {pixels // (2 * num_readers):,}, use fewer "
                "workers, or the resident loader"
            )
        return num_shards // num_readers

    def _count_steps_per_reader(self, split: str, global_batch: int) -> int:
        # Counted on the smallest shards, so that no deal of any epoch can give a reader less.
        sizes = sorted(shard.num_images for shard in self._split.shards)
        steps = sum(sizes[: self._shards_per_reader]) // self._local_batch
        if not steps:
            raise UserError(
                f"a reader's share of the {split} split is less than its {self._local_batch} "
                f"images of a batch of {global_batch}; use a smaller batch_size or fewer workers"
            )
        return steps


@dataclass(frozen=True)
class _Stream:
    """What the readers of one rank do in one epoch."""

    data_dir: Path
    shards: tuple[tuple[Shard, ...], ...]
    """For each reader."""
    channels: int
    batch_size: int
    num_skipped: int
    """Batches that each reader passes over at the start."""
    num_steps: int
    """Batches of each reader, those passed over included."""
    seed: int
    epoch: int

    def batches(self, reader: int) -> Iterator[Batch]:
        """The batches of one reader."""
        samples = _read_samples(self.data_dir, self.shards[reader], self.channels)
        return islice(self._mixed_batches(samples), self.num_skipped, self.num_steps)

    def _mixed_batches(self, samples: Iterator[Sample]) -> Iterator[Batch]:
        """Whole batches cut from pools of mixed images; what a pool leaves joins the next one."""
        parts: list[_Images] = []
        for sample in samples:
            first = image_index(sample.key)
            indices = np.arange(first, first + len(sample.labels), dtype=np.int64)
            parts.append((indices, sample.images, sample.labels))
            if sum(len(labels) for _, _, labels in parts) >= max(POOL_IMAGES, self.batch_size):
                rest = yield from self._cut(parts)
                parts = [rest]
        if parts:
            yield from self._cut(parts)

    def _cut(self, parts: "list[_Images]") -> Generator[Batch, None, "_Images"]:
        """Mix a pool and cut whole batches; returns what is left."""
        indices, images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(draw(indices, Purpose.POOL_ORDER, self.seed, self.epoch))
        num_whole = len(order) - len(order) % self.batch_size
        for some in order[:num_whole].reshape(-1, self.batch_size):
            yield Batch(
                torch.from_numpy(indices[some]),
                torch.from_numpy(images[some]).permute(0, 3, 1, 2).contiguous(),
                torch.from_numpy(labels[some]),
            )
        rest = order[num_whole:]
        return indices[rest], images[rest], labels[rest]


_Images = tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]
"""Indices (n,), images (n, H, W, C), labels (n,)."""


class _StreamDataset(IterableDataset[Batch | StageError]):
    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[Batch | StageError]:
        worker = get_worker_info()
        try:
            yield from self._stream.batches(worker.id if worker else 0)
        except StageError as error:  # as an item: raised here, a worker's traceback would join it
            yield error


def _read_samples(data_dir: Path, shards: Iterable[Shard], channels: int) -> Iterator[Sample]:
    """The samples of some shards, through webdataset."""
    fields = ("images.npy", "labels.npy", "png", "cls")
    samples = wds.DataPipeline(
        lambda: _verified_files(data_dir, shards),
        pipelinefilter(tar_file_expander)(),
        pipelinefilter(group_by_keys)(),
        wds.decode("l8" if channels == 1 else "rgb8", only=fields),
    )
    for sample in samples:
        if "png" in sample:
            height, width = sample["png"].shape[:2]
            images = sample["png"].reshape(1, height, width, channels)
            yield Sample(sample["__key__"], images, np.array([sample["cls"]], np.int64))
        else:
            yield Sample(sample["__key__"], sample["images.npy"], sample["labels.npy"])


def _verified_files(data_dir: Path, shards: Iterable[Shard]) -> Iterator[dict[str, Any]]:
    """Whole verified shards, in the form in which webdataset hands on opened files."""
    for shard in shards:
        yield {"url": shard.name, "stream": io.BytesIO(read_shard(data_dir, shard))}


def _as_it_is(batch: Any) -> Any:
    return batch
