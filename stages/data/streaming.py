"""Training batches read from shards as they are needed, for data larger than memory.

The order is that of `stages.data.shuffling`, so a network trained on a stream is the one trained
from memory. A rank reads its lanes' images in ranges of blocks, which the manifest's offsets
find, one window ahead of the batches that are cut from the window before: its memory is two
windows' share. Reading a range beats mapping the file: a shard that is cut short while a run
reads it gives a message, not SIGBUS. An epoch can be entered at any step for the price of one
window.

Shards are verified once, by their sha256, before the first batch; the ranks divide them up.
"""

import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import StageError, UserError
from pipeline.ranks import Ranks
from stages.data.batches import ALONE, Batch, BatchSettings
from stages.data.manifest import Block, Manifest, Split
from stages.data.shards import verify_shard
from stages.data.shuffling import LANES, Indices, cut_epoch, epoch_order, lane_window, share_of_rank

BATCHES_AHEAD = 4
"""Batches that wait to be used: cutting one takes less time than a step, so few hide a delay."""


class StreamingBatches:
    """Training batches read by this rank's threads."""

    def __init__(
        self,
        data_dir: Path,
        manifest: Manifest,
        split: str,
        settings: BatchSettings,
        ranks: Ranks = ALONE,
        num_threads: int = 2,
    ) -> None:
        """Verify this rank's part of the shards and open all of them.

        Raises:
            UserError: the ranks cannot share a batch, or the shards hold single pictures.
            StageError: there is no such split, or a shard is missing or damaged.
        """
        entry = manifest.split(split)
        if any(not shard.blocks for shard in entry.shards):
            raise UserError(
                f"the {split} shards hold single pictures, which cannot be streamed in random "
                "order; set images_per_block of the shard stage to 256, or loader: resident"
            )
        self.epoch_batches = cut_epoch(entry.num_images, settings.batch_size, ranks)
        self._settings, self._ranks = settings, ranks
        self._block_sizes = entry.block_sizes()
        self._num_threads = max(1, num_threads)
        with ThreadPoolExecutor(self._num_threads) as pool:
            own = entry.shards[ranks.rank :: ranks.world_size]
            list(pool.map(lambda shard: verify_shard(data_dir, shard), own))
        self._blocks = _Blocks(data_dir, manifest, entry)

    def mean_count(self, step: int) -> float:
        """Return a step's images divided by the ranks."""
        return self.epoch_batches.size(step) / self._ranks.world_size

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """Yield this rank's share of each global batch of an epoch, in memory of the CPU.

        Raises:
            StageError: a shard cannot be read any more.
        """
        ready: queue.Queue[Batch | StageError | None] = queue.Queue(BATCHES_AHEAD)
        is_left = threading.Event()
        arguments = (epoch, start_step, ready, is_left)
        threading.Thread(target=self._fill, args=arguments, daemon=True).start()
        try:
            while (batch := ready.get()) is not None:
                if isinstance(batch, StageError):
                    raise batch
                yield batch
        finally:
            is_left.set()

    def _fill(
        self,
        epoch: int,
        start_step: int,
        ready: "queue.Queue[Batch | StageError | None]",
        is_left: threading.Event,
    ) -> None:
        """Put every batch, then None; give up once the reader has left."""

        def put(item: Batch | StageError | None) -> None:
            is_put = False
            while not (is_put or is_left.is_set()):
                with suppress(queue.Full):
                    ready.put(item, timeout=0.2)
                    is_put = True

        try:
            for batch in self._batches(epoch, start_step):
                put(batch)
                if is_left.is_set():
                    return
            put(None)
        except StageError as error:
            put(error)

    def _batches(self, epoch: int, start_step: int) -> Iterator[Batch]:
        """Cut batches from one window after another; a batch may lie across two."""
        settings, batches = self._settings, self.epoch_batches
        if start_step >= batches.steps:
            return
        order = epoch_order(self._block_sizes, settings.seed, epoch, settings.window)
        step = start_step
        parts: list[_Images] = []
        for positions, images in self._windows(order, batches.start(start_step)):
            taken = 0
            while step < batches.steps:
                end = int(np.searchsorted(positions, batches.start(step + 1)))
                if end > taken:
                    parts.append(images.take(taken, end))
                if batches.start(step + 1) > images.end:
                    break
                yield _batch(parts)
                step, parts, taken = step + 1, [], end

    def _windows(self, order: Indices, start: int) -> Iterator[tuple[Indices, "_Window"]]:
        """Yield this rank's positions and images of each window from `start` on."""
        is_whole = len(order) <= self._settings.window
        length = len(order) if is_whole else lane_window(self._settings.window) * LANES
        ends = range(start // length * length + length, len(order) + length, length)
        with ThreadPoolExecutor(self._num_threads) as readers, ThreadPoolExecutor(1) as ahead:

            def load(end: int) -> tuple[Indices, _Window]:
                first, end = max(start, end - length), min(end, len(order))
                positions = share_of_rank(end, self._ranks, first)
                return positions, self._blocks.read(order[positions], end, readers)

            coming: Future[tuple[Indices, _Window]] = ahead.submit(load, ends[0])
            for end in ends:
                window = coming.result()
                if end < len(order):
                    coming = ahead.submit(load, end + length)
                yield window


_Images = tuple[Indices, NDArray[np.uint8], NDArray[np.int64]]
"""Indices (n,), images (n, H, W, C), labels (n,)."""


@dataclass(frozen=True)
class _Window:
    """The images at some positions of an epoch."""

    indices: Indices
    """In the order of the positions."""
    rows: Indices
    """For each index the row of `images`."""
    images: NDArray[np.uint8]
    """(n, H, W, C)"""
    labels: NDArray[np.int64]
    end: int
    """Position after the window's last one."""

    def take(self, start: int, end: int) -> _Images:
        rows = self.rows[start:end]
        return self.indices[start:end], self.images[rows], self.labels[rows]


class _Blocks:
    """The blocks of a split, found by image index; their files stay open."""

    def __init__(self, data_dir: Path, manifest: Manifest, split: Split) -> None:
        self._shape = manifest.image_shape
        self._image_bytes = int(np.prod(manifest.image_shape))
        self._blocks: list[tuple[Block, Path, int]] = []
        for shard in split.shards:
            path = data_dir / shard.name
            descriptor = _open(path)
            self._blocks += [(block, path, descriptor) for block in shard.blocks]
        sizes = np.array(split.block_sizes())
        self._firsts = np.cumsum(sizes) - sizes

    def read(self, indices: Indices, end: int, readers: ThreadPoolExecutor) -> _Window:
        """Read images: of each block the range that holds those asked for."""
        wanted = np.sort(indices)
        numbers = np.searchsorted(self._firsts, wanted, side="right") - 1
        edges = np.flatnonzero(np.diff(numbers, prepend=-1, append=-1))
        images = np.empty((len(wanted), *self._shape), np.uint8)
        labels = np.empty(len(wanted), np.int64)

        def read_block(start: int, stop: int) -> None:
            number = numbers[start]
            rows = wanted[start:stop] - self._firsts[number]
            images[start:stop], labels[start:stop] = self._read_rows(int(number), rows)

        list(readers.map(read_block, edges[:-1], edges[1:]))
        return _Window(indices, np.searchsorted(wanted, indices), images, labels, end)

    def _read_rows(self, number: int, rows: Indices) -> tuple[NDArray[np.uint8], Indices]:
        block, path, descriptor = self._blocks[number]
        first, num = int(rows[0]), int(rows[-1] - rows[0]) + 1
        pixels = _pread(
            path,
            descriptor,
            num * self._image_bytes,
            block.images_offset + first * self._image_bytes,
        )
        labels = _pread(path, descriptor, num * 8, block.labels_offset + first * 8)
        images = np.frombuffer(pixels, np.uint8).reshape(num, *self._shape)
        return images[rows - first], np.frombuffer(labels, "<i8")[rows - first]


def _batch(parts: list[_Images]) -> Batch:
    arrays = parts[0] if len(parts) == 1 else map(np.concatenate, zip(*parts, strict=True))
    indices, images, labels = (torch.from_numpy(array) for array in arrays)
    return Batch(indices, images.permute(0, 3, 1, 2).contiguous(), labels)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise StageError(f"shard {path} cannot be read ({error.strerror})") from None


def _pread(path: Path, descriptor: int, num_bytes: int, offset: int) -> bytes:
    try:
        content = os.pread(descriptor, num_bytes, offset)
    except OSError as error:
        raise StageError(f"shard {path} cannot be read ({error.strerror})") from None
    if len(content) != num_bytes:
        raise StageError(
            f"shard {path} has lost its end while the run was reading it; run the shard stage "
            "again with --force, then this command again: it goes on from the last checkpoint"
        )
    return content
