"""A mistake in a spec, where it stands, and what was probably meant."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

KeyPath = tuple[str | int, ...]
"""The keys, and list positions, that lead to a value: ("stages", "train", "epochs")."""


@dataclass(frozen=True, order=True)
class Location:
    """Where a value was written; places sort as a reader meets them."""

    line: int
    """Counted from 1; overrides count on behind every line."""
    column: int
    text: str
    """`configs/quickstart.yaml:12` or `--set stages.train.epochs=3`."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing that the user has to put right."""

    place: Location
    path: KeyPath = field(compare=False)
    message: str = field(compare=False)

    def __str__(self) -> str:
        where = f"{dotted(self.path)}: " if self.path else ""
        return f"{self.place.text}: {where}{self.message}"


def dotted(path: KeyPath) -> str:
    """Write a path as `--set` takes it: `stages.certify.eps_grid.2`."""
    return ".".join(part if _is_plain(part) else shown(part) for part in map(str, path))


def shown(value: Any, max_length: int = 60) -> str:
    """A value as the user would write it in YAML, shortened, safe to print on a terminal."""
    if isinstance(value, str) and _is_plain(value):
        text = f'"{value}"'
    else:
        text = json.dumps(value, default=str)
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def did_you_mean(given: str, options: Iterable[str]) -> str:
    """Name the option that comes nearest to what was given, else all of them.

    Returns:
        `did you mean "train"?`, or `choose one of: a, b`, or "" where there is no option.
    """
    names = sorted(set(options))
    near = nearest(given, names)
    if near:
        return f'did you mean "{near}"?'
    return f"choose one of: {', '.join(names)}" if names else ""


def nearest(given: str, options: Iterable[str]) -> str | None:
    """The option spelt most like `given`, whatever its case and hyphens; None: none is like it."""
    folded = {_folded(name): name for name in sorted(options)}
    matches = get_close_matches(_folded(given), folded, n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def _folded(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")


def _is_plain(text: str) -> bool:
    return text.isprintable() and '"' not in text and text != ""
