"""`--set stages.train.epochs=3`: a value on the command line in place of the file's."""

from typing import Any, cast

from yaml.nodes import MappingNode, ScalarNode

from pipeline.spec.diagnostics import KeyPath, Location, did_you_mean, dotted, shown
from pipeline.spec.yaml_document import Document

BEHIND_THE_FILE = 1_000_000_000
"""Overrides are sorted behind every line of the file."""


def apply_override(document: Document, override: str, number: int) -> None:
    """Write one `--set PATH=VALUE` into the document, under the same rules as the file.

    Args:
        document: changed in place.
        override: the text behind `--set`.
        number: how many overrides came before; they are reported in this order.
    """
    place = Location(BEHIND_THE_FILE + number, 0, f"--set {shown_override(override)}")
    name, equals, text = override.partition("=")
    if not equals or not name or "" in name.split("."):
        document.report((), "write it as PATH=VALUE, e.g. stages.train.epochs=3", place)
        return
    part = Document(place.text)
    node = part.compose(text)
    if part.mistakes:
        document.report((), part.mistakes[0].message, place)
        return
    group, path = _group_of(document, name.split("."), place)
    if group is not None:
        empty = ScalarNode("tag:yaml.org,2002:null", "", style=None)
        group[path[-1]] = document.replace(path, node or empty, place)


def shown_override(override: str) -> str:
    """An override as the user typed it, safe to print on a terminal."""
    return override if override.isprintable() else shown(override)


def _group_of(document: Document, names: list[str], place: Location) -> tuple[Any, KeyPath]:
    """Find, or make, the group that holds the last of `names`; None where there cannot be one."""
    group, path = document.value, cast(KeyPath, ())
    for depth, name in enumerate(names):
        here = (*path, name)
        if isinstance(group, list):
            if not name.isdecimal() or int(name) >= len(group):
                count = f"positions 0 to {len(group) - 1}" if group else "no position: it is empty"
                document.report(here, f"the list {dotted(path)} has {count}", place)
                return None, here
            here = (*path, int(name))
        elif not isinstance(group, dict):
            message = f"{dotted(path)} is {shown(group)}, not a group of settings"
            document.report(here, message, place)
            return None, here
        elif depth == 1 and path == ("stages",) and name not in group:
            message = f"no stage has this name; {did_you_mean(name, group)}"
            document.report(here, message, place)
            return None, here
        if depth == len(names) - 1:
            return group, here
        if isinstance(group, dict) and group.get(name) is None:
            group[name] = document.replace(here, MappingNode("", []), place)
        group, path = group[here[-1]], here
    raise AssertionError("an override names at least one key")
