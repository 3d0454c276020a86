"""A YAML text as plain values, each with the place where it was written.

Bare words follow YAML 1.2: only true and false are booleans; `010`, `4:00:00` and dates are text.
"""

import math
import re
from collections.abc import Iterator
from typing import Any, cast

import yaml
from yaml.constructor import SafeConstructor
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipeline.spec.diagnostics import KeyPath, Location, Mistake, shown

MAX_DEPTH = 40
"""No spec nests deeper; a deeper text is a slip or an attack on the parser's stack."""


class Document:
    """The values of a YAML file, their places, and the mistakes found so far."""

    def __init__(self, file_name: str) -> None:
        self.file_name = file_name
        self.value: Any = None
        self.mistakes: list[Mistake] = []
        self._places: dict[KeyPath, Location] = {}

    def place(self, path: KeyPath) -> Location:
        """Where the value at `path`, or the nearest group around it, was written."""
        while path and path not in self._places:
            path = path[:-1]
        return self._places.get(path) or self.line(1)

    def line(self, number: int, column: int = 0) -> Location:
        """The place of a line of the file, counted from 1."""
        return Location(number, column, f"{self.file_name}:{number}")

    def report(self, path: KeyPath, message: str, place: Location | None = None) -> None:
        """Note a mistake at `path`."""
        self.mistakes.append(Mistake(place or self.place(path), path, message))

    def report_once(self, path: KeyPath, message: str) -> None:
        """Note a mistake at `path`, unless the value there is already known to be wrong."""
        if not self.has_mistake_at(path):
            self.report(path, message)

    def has_mistake_at(self, path: KeyPath) -> bool:
        """True when the value at `path`, or a group around it, is known to be wrong."""
        return any(path[: len(mistake.path)] == mistake.path for mistake in self.mistakes)

    def compose(self, text: str) -> Node | None:
        """The node tree of a YAML text; a text that is no YAML is noted as a mistake."""
        loader = None
        try:
            loader = _Composer(text)
            return loader.get_single_node()
        except yaml.reader.ReaderError as error:
            line = text[: error.position].count("\n") + 1
            message = f"the character {shown(chr(error.character))} is not allowed in YAML"
            self.report((), message, self.line(line))
        except yaml.MarkedYAMLError as error:
            for line, message in _syntax_mistakes(text, error):
                self.report((), message, self.line(line))
        except RecursionError:
            self.report((), f"nested more than {MAX_DEPTH} levels deep")
        except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF" or %YAML 1.<5000 digits>
            line = loader.line + 1 if loader else 1
            self.report((), "this is no YAML: a number out of range", self.line(line))
        return None

    def replace(self, path: KeyPath, node: Node, place: Location) -> Any:
        """Convert `node`, written at `place`, and forget what stood at `path` before."""
        size = len(path)
        self._places = {known: at for known, at in self._places.items() if known[:size] != path}
        self.mistakes = [mistake for mistake in self.mistakes if mistake.path[:size] != path]
        return self.put(path, node, place)

    def put(self, path: KeyPath, node: Node, place: Location | None = None) -> Any:
        """Convert `node` to a plain value and note the place of everything in it."""
        self._places[path] = place or self._start(node)
        if len(path) > MAX_DEPTH:
            self.report(path[:4], f"nested more than {MAX_DEPTH} levels deep")
            return None
        if isinstance(node, _RefusedNode):
            self.report(path, node.value)
            return None
        if isinstance(node, MappingNode):
            return self._mapping(path, node, place)
        if isinstance(node, SequenceNode):
            return [self.put((*path, i), item, place) for i, item in enumerate(node.value)]
        return self._scalar(path, cast(ScalarNode, node))

    def _start(self, node: Node) -> Location:
        return self.line(node.start_mark.line + 1, node.start_mark.column)

    def _mapping(self, path: KeyPath, node: MappingNode, place: Location | None) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_place = place or self._start(key_node)
            key = self._key(path, key_node, key_place)
            if key is None:
                continue
            if key in values:
                earlier = self._places[(*path, key)].line
                self.report(
                    (*path, key),
                    f"given twice, in line {earlier} and again in line {key_place.line}; keep one",
                    key_place,
                )
                continue
            values[key] = self.put((*path, key), value_node, place)
            self._places[(*path, key)] = key_place
        return values

    def _key(self, path: KeyPath, node: Node, place: Location) -> str | None:
        if isinstance(node, ScalarNode) and node.value == "<<" and node.style is None:
            self.report(path, "merge keys (<<) are not read; write the settings out", place)
        elif not isinstance(node, ScalarNode) or not node.value:
            self.report(path, "a setting's name must be a plain word", place)
        else:
            return cast(str, node.value)
        return None

    def _scalar(self, path: KeyPath, node: ScalarNode) -> Any:
        if any("\ud800" <= character <= "\udfff" for character in node.value):
            self.report(path, "holds half a character (a lone surrogate); write the character")
            return None
        try:
            value = _CONSTRUCTOR.construct_object(node)
        except ValueError:  # Python reads at most 4300 digits
            self.report(path, f"a number of {len(node.value)} digits; no setting is that large")
            return None
        if isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower():
            message = "is too large for a floating-point number; write .inf for infinity"
            self.report(path, f"{node.value[:40]} {message}")
            return None
        return value


def read_document(content: bytes, file_name: str) -> Document:
    """Read the bytes of a YAML file; what is wrong with it stands in the document's `mistakes`."""
    document = Document(file_name)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = document.line(content[: error.start].count(b"\n") + 1)
        document.report((), "this is not UTF-8 text; save the file as UTF-8", line)
        return document
    node = document.compose(text)
    if document.mistakes:
        return document
    if node is None:
        document.report((), "the file is empty; a spec has a `name:` and `stages:`")
    elif isinstance(node, _RefusedNode):
        document.put((), node)
    elif not isinstance(node, MappingNode):
        found = "a list" if isinstance(node, SequenceNode) else "a single value"
        message = f"{found} at the top; a spec is `name: ...` and `stages: ...`"
        document.report((), message, document.line(node.start_mark.line + 1))
    else:
        document.value = document.put((), node)
    return document


class _RefusedNode(ScalarNode):
    """Stands where the text uses a part of YAML that a spec does not; its value says so."""


class _Composer(yaml.SafeLoader):
    """Builds the node tree without making any object; refuses tags and references."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        message = ""
        if isinstance(event, AliasEvent):
            message = f"references (*{event.anchor}) are not read; write the value out"
            self.get_event()  # type: ignore[no-untyped-call]
            node = None
        else:
            node = super().compose_node(parent, index)
            tag = getattr(event, "tag", None)
            if tag not in (None, "!"):
                name = shown(tag.replace("tag:yaml.org,2002:", "!!"))
                message = f"YAML tags ({name}) are not read; write the value itself"
        if message:
            node = _RefusedNode("", message, event.start_mark, event.end_mark)
        return node


_CORE_SCHEMA = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9]*(_[0-9]+)*)",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
"""YAML 1.2's, but for other bases and leading zeros (text here), and 60_000 (a number)."""
for _name, _pattern in _CORE_SCHEMA.items():
    _Composer.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(rf"(?:{_pattern})\Z", re.ASCII), None
    )
_CONSTRUCTOR = SafeConstructor()


def _syntax_mistakes(text: str, error: yaml.MarkedYAMLError) -> Iterator[tuple[int, str]]:
    indented_by_tab = re.compile(r" *\t\s*\S")
    tabs = [i for i, line in enumerate(text.split("\n"), 1) if indented_by_tab.match(line)]
    for line_number in tabs:
        yield line_number, "a tab at the start of the line; YAML is indented by spaces"
    if tabs:
        return
    mark = error.problem_mark or error.context_mark
    line_number = mark.line + 1 if mark else 1
    if "single document" in str(error.context):
        yield line_number, "a second document starts here (---); a file holds one spec"
        return
    words = ", ".join(part for part in (error.context, error.problem) if part)
    yield line_number, f"this is no YAML: {words} (column {mark.column + 1 if mark else 1})"
