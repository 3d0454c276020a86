"""What a report says: one tree of frozen values, built by `collect` and read by every renderer.

A report has one set of data and a list of networks certified on it, of any families. Accuracies
are kept as counts; they become per cent where they are written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from pipeline.store.artifacts import StageRecord
from stages.data.history import HistoryLine
from stages.data.manifest import SourceFile
from stages.data.radius import Norm
from stages.models.pruning_file import Pruning
from stages.report.published import PublishedResult


@dataclass(frozen=True)
class Share:
    """So many of so many images."""

    count: int
    total: int


@dataclass(frozen=True)
class CurvePoint:
    """Images proved right in the whole ball of radius `eps`."""

    eps: Fraction
    certified: Share


@dataclass(frozen=True)
class ClassResult:
    """The figures of the images of one class."""

    name: str
    clean: Share
    attacked: Share
    certified: Share


@dataclass(frozen=True)
class Result:
    """What certification found on one split at one eps."""

    split: str
    norm: Norm
    """Of the ball whose radius is `eps`."""
    eps: Fraction
    method: str
    """The method and the certificates tried, e.g. `exact margin+interval`."""
    clean: Share
    pgd: Share
    """Unbroken by plain projected gradient descent, the first try of the attack."""
    attacked: Share
    certified: Share
    grid: tuple[CurvePoint, ...]
    """The radii that the run was asked for, with eps = 0 (the clean accuracy) in front."""
    curve: tuple[CurvePoint, ...]
    """The same in fine even steps, counted from the radii of all images."""
    radii: tuple[float, ...]
    """Certified radius in pixels of every image that is right unchanged, ascending."""
    classes: tuple[ClassResult, ...]
    seconds: float
    """Added over all ranks."""


@dataclass(frozen=True)
class Picture:
    """One image of the gallery and the verdict on it."""

    key: str
    label: str
    predicted: str
    margin: float
    radius: float
    """Pixels of an image in [0, 1]."""
    width: int
    height: int
    png: bytes


@dataclass(frozen=True)
class PictureRow:
    """Images chosen by one rule."""

    title: str
    rule: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Layer:
    """One layer of a network and the shapes of its tensors."""

    name: str
    tensors: tuple[str, ...]
    num_parameters: int
    """Trained figures only; running means are none."""


@dataclass(frozen=True)
class Network:
    """A network, how it was made, and what certification found of it."""

    name: str
    """The stage that handed it on."""
    records: str
    """The stage that certified it, and the key of its figures."""
    kind: str
    layers: tuple[Layer, ...]
    num_parameters: int
    num_bytes: int
    """Of network.safetensors."""
    words: Mapping[str, str]
    """What a column of its history means, by name."""
    history: tuple[HistoryLine, ...]
    pruning: Pruning | None
    """How edges were chosen; None where the network is as it was trained."""
    result: Result
    gallery: tuple[PictureRow, ...]


@dataclass(frozen=True)
class Comparison:
    """Networks of the report and published figures that may stand in one table."""

    norm: Norm
    eps: Fraction
    networks: tuple[Network, ...]
    published: tuple[PublishedResult, ...]
    """Of this data set in this ball; empty where none is known."""


@dataclass(frozen=True)
class Split:
    """Images of one split of the data."""

    name: str
    num_images: int
    num_shards: int
    num_bytes: int


@dataclass(frozen=True)
class Data:
    """The images that the networks were trained and certified on."""

    name: str
    """In the catalogue of data sets."""
    title: str
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    mean: tuple[float, ...]
    std: float
    seed: int
    sources: tuple[SourceFile, ...]
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class StageTime:
    """How long a stage took, and how much it got through."""

    stage: str
    kind: str
    num_ranks: int
    start: datetime
    seconds: float
    throughput: str
    """E.g. `4,210 images/s`; empty where a stage counts nothing."""


@dataclass(frozen=True)
class Reproduction:
    """Everything a reader needs to get the same figures again."""

    commands: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    """Code version, seeds, machine and packages, as name and text."""
    spec_name: str
    spec: str
    """The whole pipeline as YAML, every setting written out."""


@dataclass(frozen=True)
class SweepMember:
    """What one combination of settings came to."""

    labels: tuple[str, ...]
    """Its value on each axis."""
    network: str
    """The stage that handed its network on."""
    eps: Fraction
    clean: Share
    attacked: Share
    certified: Share


@dataclass(frozen=True)
class Mean:
    """A mean over members that differ in their seed only."""

    share: Share
    """Counts of all members together."""
    spread: float | None
    """Standard deviation of a member's accuracy, in [0, 1]; None: there is one member only."""


@dataclass(frozen=True)
class SweepGroup:
    """Members that differ in their seed only."""

    labels: tuple[str, ...]
    """Their value on each axis that is no seed."""
    network: str
    num_members: int
    clean: Mean
    attacked: Mean
    certified: Mean


@dataclass(frozen=True)
class SweepTable:
    """All members of a sweep."""

    axes: tuple[str, ...]
    seeds: tuple[str, ...]
    """The axes that are averaged over."""
    members: tuple[SweepMember, ...]
    groups: tuple[SweepGroup, ...]


@dataclass(frozen=True)
class Report:
    """The whole report."""

    title: str
    pipeline: str
    data: Data
    networks: tuple[Network, ...]
    comparisons: tuple[Comparison, ...]
    """One for each ball that a network was certified in; together they hold every network once."""
    stages: tuple[StageRecord, ...]
    """In the order they ran."""
    times: tuple[StageTime, ...]
    reproduction: Reproduction
    sweep: SweepTable | None = None
    """All members, where there is a sweep; the rest of the report is of the first one."""
