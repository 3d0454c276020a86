"""What others reached on the same images at the same eps, read from `published.yaml`."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import yaml
from pydantic import Field

from pipeline.spec.settings import Settings
from stages.data.radius import ExactFraction, Norm

PUBLISHED_PATH = Path(__file__).with_name("published.yaml")

_PER_CENT = r"^\d{1,2}\.\d{1,2}$"


@dataclass(frozen=True)
class PublishedResult:
    """One published row; accuracies in per cent, as printed by their source."""

    method: str
    venue: str
    arxiv: str
    clean: str | None
    attacked: str | None
    certified: str
    note: str | None


def published_results(dataset: str, norm: Norm, eps: Fraction) -> tuple[PublishedResult, ...]:
    """The published rows for exactly this data set and ball, the best certified accuracy first.

    Args:
        dataset: a name of the data set catalogue.
        norm: of the ball.
        eps: its radius in pixels of an image in [0, 1]; 8/255 matches nothing but 8/255.
    """
    table = _Table.model_validate(yaml.safe_load(PUBLISHED_PATH.read_text(encoding="utf-8")))
    wanted = (dataset, norm, eps)
    rows = [row for row in table.results if (row.dataset, row.norm, row.eps) == wanted]
    rows.sort(key=lambda row: float(row.certified), reverse=True)
    return tuple(row.result(table.sources[row.source]) for row in rows)


class _Source(Settings):
    venue: str
    arxiv: str = Field(pattern=r"^\d{4}\.\d{5}$")


class _Row(Settings):
    dataset: str
    norm: Norm
    eps: ExactFraction
    method: str
    source: str
    clean: str | None = Field(default=None, pattern=_PER_CENT)
    attacked: str | None = Field(default=None, pattern=_PER_CENT)
    certified: str = Field(pattern=_PER_CENT)
    note: str | None = None

    def result(self, source: _Source) -> PublishedResult:
        return PublishedResult(
            method=self.method,
            venue=source.venue,
            arxiv=source.arxiv,
            clean=self.clean,
            attacked=self.attacked,
            certified=self.certified,
            note=self.note,
        )


class _Table(Settings):
    sources: dict[str, _Source]
    results: list[_Row]
