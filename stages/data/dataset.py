"""What is known of a data set before its files are opened, and how its files are verified."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StageError


@dataclass(frozen=True)
class PublishedFile:
    """One file of a data set as its publisher released it."""

    name: str
    """Path inside the source folder, without `.gz`."""
    digest: str | None = None
    """`sha256:...` or `md5:...` of the content, uncompressed: repacking a `.gz` changes nothing.
    None where no checksum is published; format and counts are checked all the same."""

    def find(self, source_dir: Path) -> Path | None:
        """Return the path of `name` or `name.gz` in a folder, the plain file first."""
        candidates = (source_dir / self.name, source_dir / f"{self.name}.gz")
        return next((path for path in candidates if path.is_file()), None)

    def has_content(self, content: bytes) -> bool:
        """Return False if a checksum is published and this content has another."""
        if self.digest is None:
            return True
        algorithm, _, expected = self.digest.partition(":")
        return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest() == expected


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a data set; None is read from its files."""

    name: str
    """In a pipeline file; also the name of the module in `stages/data/datasets`."""
    title: str
    format: str
    """The module of `stages/shard/formats` that reads the files."""
    image_shape: tuple[int, int, int] | None = None
    """Height, width, channels."""
    classes: tuple[str, ...] | None = None
    num_train_images: int | None = None
    num_test_images: int | None = None
    mean: tuple[float, ...] | None = None
    """Channel means of the training images, pixels in [0, 1]. Mean and std are those of the
    published l_inf-distance networks, where there are any, so that radii and weights compare."""
    std: float | None = None
    """The one standard deviation that divides all channels."""
    train_files: tuple[PublishedFile, ...] = ()
    """In the order in which the format reads them; none where the data set is a tree of files."""
    test_files: tuple[PublishedFile, ...] = ()
    debian_package: str | None = None
    """The Debian package that holds the files; it is tried first."""
    torchvision_class: str | None = None
    """The class of `torchvision.datasets` that downloads the files."""
    by_hand: str = "put its files into {dir}"
    """How a person gets the files, where no program can; {dir} is the folder they belong in."""

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """All files, those for training first."""
        return self.train_files + self.test_files

    @property
    def is_fetchable(self) -> bool:
        """True if `supnorm fetch` can bring the files."""
        return bool(self.debian_package or self.torchvision_class)


def read_content(path: Path) -> bytes:
    """Return a file's content, uncompressed if its name ends in `.gz`.

    Raises:
        StageError: the file cannot be read, or is a damaged `.gz`.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(f"{path} cannot be read: {error}; fetch it again") from error
