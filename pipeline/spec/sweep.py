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
aggregates the sweep is made once, from all combinations.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pipeline.files import FrozenModel
from pipeline.spec.diagnostics import KeyPath, did_you_mean, dotted, shown
from pipeline.spec.settings import Settings, text_like
from pipeline.spec.yaml_document import Document

MAX_COMBINATIONS = 1000
"""Slurm's own limit of a job array is 1001 unless a site has raised it."""
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FRACTION = re.compile(r"(\d+)/(\d+)", re.ASCII)

AxisName = Annotated[
    str,
    text_like(
        "[A-Za-z][A-Za-z0-9_]{0,30}", "an axis is called by letters, digits and _, a letter first"
    ),
]


class AxisSettings(Settings):
    """One axis as written in a spec."""

    set: str | tuple[str, ...] = ()
    """The settings that change together."""
    values: tuple[Any, ...] = ()
    """What they are set to, one after the other."""
    rows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By label, the settings that change and their values."""

    @model_validator(mode="after")
    def _is_one_of_two_forms(self) -> Self:
        if self.model_fields_set not in ({"set", "values"}, {"rows"}):
            raise ValueError("an axis has either `set` and `values`, or `rows`")
        if not (self.values or self.rows):
            raise ValueError("has no value; give at least one")
        return self


@dataclass(frozen=True)
class Value:
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
    values: tuple[Value, ...]

    @property
    def stages(self) -> set[str]:
        """The stages whose settings it changes."""
        return {str(path[1]) for value in self.values for path in value.settings}

    @property
    def is_seed(self) -> bool:
        """True when it changes seeds only: results along it are averaged."""
        return all(path[-1] == "seed" for value in self.values for path in value.settings)


Combination = Sequence[tuple[Axis, Value]]
"""A value of each axis."""


class Sweep(FrozenModel):
    """What a stage that aggregates a sweep is told of the members that it reads."""

    matrix: dict[str, Any]
    """As written in the spec."""
    members: dict[str, dict[str, str]]
    """Name of a member, as it stands behind the names of inputs -> label by axis."""
    seeds: tuple[str, ...]
    """Axes along which results are averaged."""


def sweep_of(matrix: Mapping[str, Any], axes: Sequence[Axis]) -> Sweep:
    """Describe all combinations of some axes."""
    return Sweep(
        matrix=dict(matrix),
        members={
            _name(combination): {axis.name: value.label for axis, value in combination}
            for combination in combinations_of(axes)
        },
        seeds=tuple(axis.name for axis in axes if axis.is_seed),
    )


def combinations_of(axes: Sequence[Axis]) -> list[Combination]:
    """List every combination, the last axis running fastest; without axes, the empty one."""
    return list(itertools.product(*([(axis, value) for value in axis.values] for axis in axes)))


def full_name(name: str, combination: Combination) -> str:
    """Name a stage, or an input, of one combination: `train.eps-1_10.seed-0`."""
    return f"{name}.{_name(combination)}" if combination else name


def read_axes(document: Document, written: Mapping[str, AxisSettings]) -> list[Axis]:
    """Turn axes as written into those of a sweep; what is wrong is reported to the document."""
    axes = [Axis(name, tuple(_values(name, axis))) for name, axis in written.items()]
    axes = [axis for axis in axes if _is_right(document, axis)]
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_COMBINATIONS:
        message = f"has {count:,} combinations; {MAX_COMBINATIONS:,} at most: split the sweep"
        document.report(("matrix",), message)
        return []
    return axes


def axes_of_stages(
    axes: Sequence[Axis], wiring: Mapping[str, Mapping[str, str]]
) -> dict[str, tuple[Axis, ...]]:
    """Find the axes that each stage depends on, by its own settings or by what it reads."""

    def names(stage: str, seen: frozenset[str]) -> set[str]:
        found = {axis.name for axis in axes if stage in axis.stages}
        for source in set(wiring[stage].values()) & wiring.keys() - seen:
            found |= names(source, seen | {source})
        return found

    reached = {stage: names(stage, frozenset({stage})) for stage in wiring}
    return {stage: tuple(axis for axis in axes if axis.name in reached[stage]) for stage in wiring}


def with_combination(settings: Any, stage: str, combination: Combination) -> Any:
    """Copy a stage's settings with what a combination changes in it."""
    for _, value in combination:
        for path, setting in value.settings.items():
            if path[1] == stage:
                settings = _with_setting(settings, path[2:], setting)
    return settings


def report_in_sweep(
    document: Document, path: KeyPath, message: str, combination: Combination
) -> None:
    """Report a mistake where it was written: in the matrix, if that set what stands at `path`."""
    for _, value in combination:
        if any(path[: len(changed)] == changed for changed in value.settings):
            path, message = value.place, f"{dotted(path)}: {message}"
            break
    document.report_once(path, message)


def _with_setting(settings: Any, path: KeyPath, value: Any) -> Any:
    """Copy nested settings with one value at `path`; groups on the way are made."""
    if not path:
        return value
    group = dict(settings) if isinstance(settings, dict) else {}
    group[str(path[0])] = _with_setting(group.get(str(path[0])), path[1:], value)
    return group


def _values(name: str, axis: AxisSettings) -> Iterator[Value]:
    paths = [axis.set] if isinstance(axis.set, str) else axis.set
    for number, given in enumerate(axis.values):
        label = given if isinstance(given, str) else json.dumps(given)
        settings = dict.fromkeys(map(_key_path, paths), given)
        yield Value(label, settings, ("matrix", name, "values", number))
    for label, row in axis.rows.items():
        changed = {_key_path(path): given for path, given in row.items()}
        yield Value(label, changed, ("matrix", name, "rows", label))


def _key_path(text: str) -> KeyPath:
    return tuple(text.split("."))


def _is_right(document: Document, axis: Axis) -> bool:
    stages = document.value["stages"]
    names = [_slug(value.label) for value in axis.values]
    before = len(document.mistakes)
    for number, value in enumerate(axis.values):
        if names[number] in names[:number]:
            document.report(value.place, f"{shown(value.label)} stands here twice; keep one")
        for changed in [[*map(str, path)] for path in value.settings]:
            message = ""
            if len(changed) < 3 or changed[0] != "stages" or changed[2] in ("inputs", "kind"):
                message = f"{shown('.'.join(changed))} is no setting: stages.train.seed is one"
            elif changed[1] not in stages:
                advice = did_you_mean(changed[1], stages)
                message = f"no stage is called {shown(changed[1])}; {advice}"
            if message:
                document.report_once(("matrix", axis.name), message)
    return len(document.mistakes) == before


def _name(combination: Combination) -> str:
    """Name a combination in harmless characters, whatever its values hold: `eps-1_10.seed-0`."""
    return ".".join(f"{axis.name}-{_slug(value.label)}" for axis, value in combination)


def _slug(label: str) -> str:
    """Write a label as part of a folder's name: itself where harmless, else with a digest."""
    fraction = _FRACTION.fullmatch(label)
    text = f"{fraction[1]}_{fraction[2]}" if fraction else label
    if _SLUG.fullmatch(text):
        return text
    harmless = re.sub(r"[^A-Za-z0-9_-]+", "_", label)[:24]
    return f"{harmless}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
