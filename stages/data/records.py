"""What certification found, one row an image, and the figures computed from the rows.

`records.csv` and `summary.json` are written and read here and nowhere else.
"""

import csv
import hashlib
import io
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import StageError
from pipeline.files import FrozenModel, read_json, write_atomic
from stages.data.manifest import image_key
from stages.data.radius import ExactFraction, Norm, Radius, largest_float_up_to

RECORDS_FILE = "records.csv"
SUMMARY_FILE = "summary.json"

Accuracy = Annotated[float, Field(ge=0, le=1)]


class Record(FrozenModel):
    """The verdict on one image; a row that contradicts itself cannot be made.

    For each image certified implies attacked_correct, and attacked_correct implies correct.
    """

    key: str
    """The image: `<split>-<index in the split, six digits>`."""
    label: int = Field(ge=0)
    predicted: int = Field(ge=0)
    """Class of the largest logit of the unchanged image; a tie counts against the label."""
    margin: float = Field(allow_inf_nan=True)
    """Logit of the label minus the largest other logit, as computed, before any allowance."""
    radius: float = Field(ge=0)
    """Pixels of [0, 1], `exact_radius` rounded down."""
    certified: bool
    """Proved right at the run's eps, that is eps < radius."""
    attacked_correct: bool
    """Right on the unchanged image and after every try of the attack at the run's eps."""
    method: str
    """What proved the radius: `margin`, `interval`, or `none` where nothing is proved."""
    seconds: float = Field(ge=0)
    """This image's equal share of the time that its batch took."""
    exact_radius: Radius
    """Pixels of [0, 1]: proved right at every eps < radius, strictly; 0 where nothing is proved."""
    pgd_correct: bool
    """Right after plain projected gradient descent alone, the first try of the attack."""
    image_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the image's pixels, from `image_digest`."""
    within_slack: bool = False
    """Not certified only because rounding could undo it: plain float32 would say that it is."""

    @property
    def is_correct(self) -> bool:
        """Right on the unchanged image."""
        return self.predicted == self.label

    @property
    def verdict(self) -> str:
        """One word for the image: `certified`, `undecided`, `broken` by the attack, or `wrong`."""
        if not self.is_correct:
            return "wrong"
        if self.certified:
            return "certified"
        return "undecided" if self.attacked_correct else "broken"

    def is_certified_at(self, eps: Fraction) -> bool:
        """Proved right in the whole ball of radius `eps`; equality is no proof."""
        return eps < self.exact_radius

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.attacked_correct and not self.is_correct:
            raise ValueError("attacked_correct, but wrong on the unchanged image")
        if self.certified and not self.attacked_correct:
            raise ValueError("certified, but broken by the attack")
        if self.certified and self.within_slack:
            raise ValueError("certified, but within the slack")
        if self.attacked_correct and not self.pgd_correct:
            raise ValueError("attacked_correct, but broken by the first try of the attack")
        if self.pgd_correct and not self.is_correct:
            raise ValueError("pgd_correct, but wrong on the unchanged image")
        if self.radius != largest_float_up_to(self.exact_radius):
            raise ValueError("radius is not exact_radius rounded down")
        if self.radius > 0 and not self.is_correct:
            raise ValueError("a radius above 0, but wrong on the unchanged image")
        return self


class GridPoint(FrozenModel):
    """Certified accuracy at one eps of the grid."""

    eps: Radius
    num_certified: int = Field(ge=0)
    certified_accuracy: Accuracy


class Summary(FrozenModel):
    """`summary.json`: counts, and accuracies in [0, 1] that are counts divided by `num_images`."""

    split: str
    num_images: int = Field(gt=0)
    norm: Norm
    """Of the ball whose radius is `eps`."""
    eps: ExactFraction
    num_clean_correct: int = Field(ge=0)
    num_pgd_correct: int = Field(ge=0)
    num_attacked_correct: int = Field(ge=0)
    num_certified: int = Field(ge=0)
    num_within_slack: int = Field(ge=0)
    """Images that are not certified only because float32 rounding could undo it."""
    clean_accuracy: Accuracy
    pgd_accuracy: Accuracy
    """After plain projected gradient descent alone, for comparison with others' figures."""
    attacked_accuracy: Accuracy
    """An upper bound of the true accuracy in the ball: what the attack did not break."""
    certified_accuracy: Accuracy
    """A lower bound of the true accuracy in the ball."""
    certified_method: str
    """The method and the certificates tried, joined by `+`; an image needs one of them."""
    seconds: float = Field(ge=0)
    """Time spent on all images, added over ranks and over the tries of a run that was resumed."""
    eps_grid: tuple[GridPoint, ...]

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        counts = (
            self.num_certified,
            self.num_attacked_correct,
            self.num_pgd_correct,
            self.num_clean_correct,
        )
        if list(counts) != sorted(counts):
            raise ValueError("counts must obey certified <= attacked <= pgd <= clean")
        return self


def image_digest(image: NDArray[np.uint8]) -> str:
    """Return the sha256 of an image's pixels, uint8 (C, H, W) in C order."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write rows as CSV; the file appears whole or not at all, and lasts through a power cut."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Record.model_fields)
    writer.writerows(_cells(record) for record in records)
    write_atomic(path, text.getvalue(), durable=True)


def read_records(path: Path) -> list[Record]:
    """Read the rows that `write_records` wrote.

    Raises:
        StageError: the file is missing, cut short, or has a row that is none; names file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StageError(f"{path}: cannot read the records: {error}") from None
    if not text.endswith("\n"):
        raise StageError(f"{path}: the last row is cut short; run the certify stage again")
    header, *rows = csv.reader(io.StringIO(text))
    if header != list(Record.model_fields):
        expected = ",".join(Record.model_fields)
        raise StageError(f"{path}:1: the header is {','.join(header)!r}, expected {expected!r}")
    return [_parse(path, line, row) for line, row in enumerate(rows, start=2)]


def check_every_image_once(records: Sequence[Record], split: str, num_images: int) -> None:
    """Refuse rows that are not exactly the images of a split, each once.

    Args:
        records: the rows, in any order.
        split: name of the split that was certified.
        num_images: number of images that the manifest gives for this split.

    Raises:
        StageError: images are missing, doubled, or not of this split; names the first few.
    """
    counts = Counter(record.key for record in records)
    expected = [image_key(split, index) for index in range(num_images)]
    faults = {
        "missing": [key for key in expected if key not in counts],
        "doubled": [key for key, count in counts.items() if count > 1],
        f"not of split {split!r}": sorted(counts.keys() - set(expected)),
    }
    found = [f"{len(keys)} {name} ({_first(keys)})" for name, keys in faults.items() if keys]
    if found:
        raise StageError(
            f"{len(records)} rows for the {num_images} images of split {split!r}: "
            f"{'; '.join(found)}; every image is certified exactly once: run the stage with --force"
        )


def summarise(
    records: Sequence[Record],
    split: str,
    norm: Norm,
    eps: Fraction,
    eps_grid: Iterable[Fraction],
    certified_method: str,
) -> Summary:
    """Compute every figure of `summary.json` from the rows.

    Args:
        records: one row an image, at least one.
        split: name of the split.
        norm: of the ball that the run certified and attacked in.
        eps: the radius that the run certified and attacked at.
        eps_grid: radii at which the certified accuracy is given besides.
        certified_method: the method and the certificates tried, e.g. `exact margin+interval`.

    Raises:
        StageError: a row's `certified` is not what its radius says at `eps`.
    """
    for record in records:
        if record.certified != record.is_certified_at(eps):
            raise StageError(
                f"{record.key}: certified is {record.certified} at eps {eps}, "
                f"but its radius is {record.exact_radius}"
            )
    num_images = len(records)
    num_clean = sum(record.is_correct for record in records)
    num_pgd = sum(record.pgd_correct for record in records)
    num_attacked = sum(record.attacked_correct for record in records)
    num_certified = sum(record.certified for record in records)
    return Summary(
        split=split,
        num_images=num_images,
        norm=norm,
        eps=eps,
        num_clean_correct=num_clean,
        num_pgd_correct=num_pgd,
        num_attacked_correct=num_attacked,
        num_certified=num_certified,
        num_within_slack=sum(record.within_slack for record in records),
        clean_accuracy=num_clean / num_images,
        pgd_accuracy=num_pgd / num_images,
        attacked_accuracy=num_attacked / num_images,
        certified_accuracy=num_certified / num_images,
        certified_method=certified_method,
        seconds=sum(record.seconds for record in records),
        eps_grid=tuple(_grid_points(records, eps_grid)),
    )


def write_summary(directory: Path, summary: Summary) -> None:
    """Write `summary.json` into a folder, whole or not at all."""
    write_atomic(directory / SUMMARY_FILE, summary.model_dump_json(indent=2) + "\n", durable=True)


def read_summary(directory: Path) -> Summary:
    """Read `summary.json` from a certify artifact.

    Raises:
        StageError: the file is missing or is no summary.
    """
    return read_json(directory / SUMMARY_FILE, Summary, "run the certify stage again")


def _cells(record: Record) -> list[str]:
    values = record.model_dump().values()
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def _parse(path: Path, line: int, row: list[str]) -> Record:
    names = Record.model_fields
    if len(row) != len(names):
        raise StageError(f"{path}:{line}: {len(row)} cells, expected {len(names)}")
    try:
        return Record.model_validate(dict(zip(names, row, strict=True)))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'row'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise StageError(f"{path}:{line}: {faults}") from None


def _grid_points(records: Sequence[Record], eps_grid: Iterable[Fraction]) -> Iterator[GridPoint]:
    radii = sorted(record.exact_radius for record in records)
    for eps in sorted(set(eps_grid)):
        num_certified = len(radii) - bisect_right(radii, eps)
        yield GridPoint(
            eps=eps, num_certified=num_certified, certified_accuracy=num_certified / len(radii)
        )


def _first(keys: Sequence[str], shown: int = 3) -> str:
    return ", ".join(keys[:shown]) + (", ..." if len(keys) > shown else "")
