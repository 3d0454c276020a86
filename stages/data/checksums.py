"""Checksums of source files: of their content, uncompressed where a file is a `.gz`."""

import gzip
import hashlib
import zlib
from pathlib import Path

from pipeline.errors import StageError
from stages.data.catalogue import PublishedFile


def find_source_file(source_dir: Path, name: str) -> Path | None:
    """The file `name` or `name.gz` of a source folder, whichever is there; the plain one first."""
    candidates = (source_dir / name, source_dir / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def read_content(path: Path) -> bytes:
    """A file's content, uncompressed if its name ends in `.gz`.

    Raises:
        StageError: the file cannot be read, or is a damaged `.gz`.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(f"{path} cannot be read: {error}; fetch it again") from error


def digest(content: bytes, algorithm: str = "sha256") -> str:
    """Hexadecimal digest of bytes."""
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def is_published(content: bytes, published: PublishedFile) -> bool:
    """True if a file's content has the digest that its publisher lists."""
    algorithm, _, expected = published.digest.partition(":")
    return digest(content, algorithm) == expected
