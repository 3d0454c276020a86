"""`matrix:` of a spec: one pipeline run with every combination of some settings.

    matrix:
      eps:                                        # an axis: settings that change together
        set: [stages.train.eps, stages.certify.eps]
        values: [1/10, 1/20]
      seed: {set: stages.train.seed, values: [0, 1, 2]}
      loss:                                       # or rows that each change several settings
        rows:
          hinge: {stages.train.loss: {kind: hinge}}
          ibp: {stages.train.loss: {kind: ibp}, stages.train.optimiser.decay: 0.01}

A stage is made once for each combination of the axes that it depends on, by its own settings or by
what it reads: `train.eps-1_10.seed-0`. What depends on no axis is made once. A stage that
aggregates the sweep, the report, is made once from all.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.spec.diagnostics import KeyPath, did_you_mean, dotted, shown
from pipeline.spec.yaml_document import Document

MAX_MEMBERS = 1000
"""Slurm's own limit of a job array is 1001 unless a site has raised it."""
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FRACTION = re.compile(r"(\d+)/(\d+)", re.ASCII)
_AXIS_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,30}")


@dataclass(frozen=True)
class Point:
    """One value of an axis."""

    label: str
    settings: Mapping[KeyPath, Any]
    """Path in the spec -> value there."""
    place: KeyPath
    """Where in the spec it is written."""


@dataclass(frozen=True)
class Axis:
    """One direction of a sweep."""

    name: str
    points: tuple[Point, ...]

    @property
    def stages(self) -> set[str]:
        """The stages whose settings it changes."""
        return {str(path[1]) for point in self.points for path in point.settings}

    @property
    def is_seed(self) -> bool:
        """True when it changes seeds only: results along it are averaged."""
        return all(path[-1] == "seed" for point in self.points for path in point.settings)


Member = tuple[tuple[Axis, Point], ...]
"""One combination: a point of each axis."""


class Sweep(BaseModel):
    """What a stage that aggregates_sweep is told of the members that it reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    matrix: dict[str, Any]
    """As written in the spec."""
    members: dict[str, dict[str, str]]
    """Name of a member, as it stands behind the names of inputs -> label by axis."""
    seeds: tuple[str, ...]
    """Axes along which results are averaged."""


def sweep_of(matrix: Mapping[str, Any], axes: Sequence[Axis]) -> Sweep:
    """Describe all members over some axes."""
    return Sweep(
        matrix=dict(matrix),
        members={
            member_name(member): {axis.name: point.label for axis, point in member}
            for member in members_over(axes)
        },
        seeds=tuple(axis.name for axis in axes if axis.is_seed),
    )


def members_over(axes: Sequence[Axis]) -> list[Member]:
    """Every combination, the last axis running fastest; where there is no axis, the empty one."""
    points = [[(axis, point) for point in axis.points] for axis in axes]
    return list(itertools.product(*points))


def full_name(name: str, member: Sequence[tuple[Axis, Point]]) -> str:
    """The name of a stage, or of an input, for one member: `train.eps-1_10.seed-0`."""
    return ".".join([name, *([member_name(member)] if member else [])])


def member_name(member: Sequence[tuple[Axis, Point]]) -> str:
    """`eps-1_10.seed-0`: letters, digits, `_`, `-` and dots only, whatever the values hold."""
    return ".".join(f"{axis.name}-{_slug(point.label)}" for axis, point in member)


def read_axes(document: Document) -> list[Axis]:
    """The axes of a spec; what is wrong with them is noted in the document."""
    given = document.value.get("matrix", {})
    if document.has_mistake_at(("matrix",)):
        return []
    if not isinstance(given, dict):
        document.report(("matrix",), f"{shown(given)} is given; must be a group of axes")
        return []
    axes = [axis for name in given for axis in _axis(document, name, given[name])]
    count = math.prod(len(axis.points) for axis in axes)
    if count > MAX_MEMBERS:
        message = f"has {count:,} combinations; {MAX_MEMBERS:,} at most: split the sweep"
        document.report(("matrix",), message)
        return []
    return axes


def axes_of_stages(
    axes: Sequence[Axis], wiring: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[Axis, ...]]:
    """The axes that each stage depends on, by its own settings or by what it reads."""

    def names(stage: str, seen: frozenset[str]) -> set[str]:
        found = {axis.name for axis in axes if stage in axis.stages}
        for source in set(wiring[stage].values()) & wiring.keys() - seen:
            found |= names(source, seen | {source})
        return found

    reached = {stage: names(stage, frozenset({stage})) for stage in wiring}
    return {stage: tuple(axis for axis in axes if axis.name in reached[stage]) for stage in wiring}


def with_member(settings: Any, stage: str, member: Member) -> Any:
    """A copy of a stage's settings with what a member changes in it."""
    for _, point in member:
        for path, value in point.settings.items():
            if path[1] == stage:
                settings = _with_value(settings, path[2:], value)
    return settings


def blame_member(document: Document, path: KeyPath, message: str, member: Member) -> None:
    """Note a mistake where it was written: in the matrix, if a member set what stands at `path`."""
    for _, point in member:
        if any(path[: len(changed)] == changed for changed in point.settings):
            path, message = point.place, f"{dotted(path)}: {message}"
            break
    if not document.has_mistake_at(path):
        document.report(path, message)


def _with_value(settings: Any, path: KeyPath, value: Any) -> Any:
    """A copy of nested settings with one value at `path`; groups on the way are made."""
    if not path:
        return value
    group = dict(settings) if isinstance(settings, dict) else {}
    group[str(path[0])] = _with_value(group.get(str(path[0])), path[1:], value)
    return group


def _axis(document: Document, name: str, given: Any) -> Iterator[Axis]:
    path: KeyPath = ("matrix", name)
    keys = set(given) if isinstance(given, dict) else set()
    if not _AXIS_NAME.fullmatch(name):
        document.report(path, "an axis is called by letters, digits and _, a letter first")
    elif keys not in ({"set", "values"}, {"rows"}):
        document.report(path, "an axis has either `set` and `values`, or `rows`")
    else:
        points = list(_rows(path, given) if "rows" in given else _values(path, given))
        if not points:
            document.report(path, "has no value; give at least one")
        elif _are_right(document, path, points):
            yield Axis(name, tuple(points))


def _values(path: KeyPath, given: dict[str, Any]) -> Iterator[Point]:
    paths = given["set"] if isinstance(given["set"], list) else [given["set"]]
    values = given["values"] if isinstance(given["values"], list) else []
    for number, value in enumerate(values):
        settings = {_key_path(name): value for name in paths}
        yield Point(_label(value), settings, (*path, "values", number))


def _rows(path: KeyPath, given: dict[str, Any]) -> Iterator[Point]:
    rows = given["rows"] if isinstance(given["rows"], dict) else {}
    for label, row in rows.items():
        settings = row.items() if isinstance(row, dict) else ()
        changed = {_key_path(name): value for name, value in settings}
        yield Point(label, changed, (*path, "rows", label))


def _are_right(document: Document, path: KeyPath, points: Sequence[Point]) -> bool:
    known = document.value.get("stages")
    stages = list(known) if isinstance(known, dict) else []
    names = [_slug(point.label) for point in points]
    before = len(document.mistakes)
    for number, point in enumerate(points):
        if names[number] in names[:number]:
            document.report(point.place, f"{shown(point.label)} stands here twice; keep one")
        for changed in point.settings:
            if len(changed) < 3 or changed[0] != "stages" or changed[2] in ("inputs", "kind"):
                message = f'"{".".join(map(str, changed))}" is no setting: stages.train.seed is one'
                document.report(path, message)
            elif changed[1] not in stages:
                advice = did_you_mean(str(changed[1]), stages)
                document.report(path, f"no stage is called {shown(changed[1])}; {advice}")
    return len(document.mistakes) == before


def _key_path(name: Any) -> KeyPath:
    return tuple(str(name).split("."))


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _slug(label: str) -> str:
    """A label as part of a folder's name: itself where it is harmless, else with a digest."""
    fraction = _FRACTION.fullmatch(label)
    text = f"{fraction[1]}_{fraction[2]}" if fraction else label
    if _SLUG.fullmatch(text):
        return text
    harmless = re.sub(r"[^A-Za-z0-9_-]+", "_", label)[:24]
    return f"{harmless}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
