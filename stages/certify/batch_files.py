"""A split cut into batches, each with a file of its own rows: what ranks share, and resume from.

Batch b belongs to rank b mod world size and its file appears whole or not at all, so a file that is
there is finished work, whoever did it and in whichever try. The cut does not depend on the number
of ranks, and neither do the rows.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StageError
from pipeline.ranks import Ranks
from stages.data.manifest import image_key
from stages.data.records import Record, check_every_image_once, read_records, write_records

POLL_S = 0.2
STALL_S = 3600.0
"""No new batch from any rank for this long: somebody has died without being noticed."""


@dataclass(frozen=True)
class BatchFiles:
    """The batches of a split and the files of their rows."""

    folder: Path
    split: str
    num_images: int
    batch_size: int

    @property
    def num_batches(self) -> int:
        """Number of batches; the last one may be smaller."""
        return -(-self.num_images // self.batch_size)

    def indices(self, batch: int) -> range:
        """The images of a batch, by their index in the split."""
        start = batch * self.batch_size
        return range(start, min(start + self.batch_size, self.num_images))

    def left_for(self, ranks: Ranks) -> Iterator[int]:
        """The batches of this rank that no earlier attempt has finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for batch in range(ranks.rank, self.num_batches, ranks.world_size):
            if not self.is_done(batch):
                yield batch

    def write(self, batch: int, records: list[Record]) -> None:
        """Commit the rows of a batch."""
        assert [record.key for record in records] == self._keys(batch)
        write_records(self._path(batch), records)

    def is_done(self, batch: int) -> bool:
        """Whether the batch's file holds its images; a damaged one counts as missing."""
        try:
            return [record.key for record in read_records(self._path(batch))] == self._keys(batch)
        except StageError:
            return False

    def num_images_done(self) -> int:
        """Images in files that are there, over all ranks."""
        batches = range(self.num_batches)
        return sum(len(self.indices(batch)) for batch in batches if self._path(batch).exists())

    def wait_for_all(self, report: Callable[[int], None], stall_s: float = STALL_S) -> None:
        """Return once every batch of every rank is done.

        Args:
            report: is told the number of images done, now and then.
            stall_s: the longest time without a new batch.

        Raises:
            StageError: no new batch for `stall_s`; names the batches that are missing.
        """
        missing = set(range(self.num_batches))
        last_news = time.monotonic()
        while True:
            done = {batch for batch in missing if self.is_done(batch)}
            if done:
                missing -= done
                last_news = time.monotonic()
                report(self.num_images_done())
            if not missing:
                return
            if time.monotonic() - last_news > stall_s:
                first = image_key(self.split, self.indices(min(missing))[0])
                raise StageError(
                    f"{len(missing)} batches of other ranks are still missing after {stall_s:g} s "
                    f"without news, the first starts at {first}; see whether a rank has died and "
                    "run again: what is done is kept"
                )
            time.sleep(POLL_S)

    def merge(self) -> list[Record]:
        """All rows in the order of the images.

        Raises:
            StageError: the rows are not every image of the split, each once.
        """
        records = [
            record
            for batch in range(self.num_batches)
            for record in read_records(self._path(batch))
        ]
        check_every_image_once(records, self.split, self.num_images)
        return records

    def remove(self) -> None:
        """Delete the files, once their rows are in `records.csv`."""
        shutil.rmtree(self.folder)

    def _path(self, batch: int) -> Path:
        return self.folder / f"{self.indices(batch)[0]:06d}.csv"

    def _keys(self, batch: int) -> list[str]:
        return [image_key(self.split, index) for index in self.indices(batch)]
