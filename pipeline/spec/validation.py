"""What pydantic finds wrong with settings, in plain words and under the paths of the YAML."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.spec.diagnostics import KeyPath, did_you_mean, dotted, shown

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], value: dict[str, Any]) -> Model | list[tuple[KeyPath, str]]:
    """Check plain values, as read from YAML, against a settings model.

    JSON rules apply: a list is a tuple, text is a path or an enum, but "3" is no number and true is
    not 1. The same rules read the settings back in a rank, from `attempt.json`.

    Returns:
        The settings; or every mistake as (path inside `value`, message).
    """
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return list(_explain(model, value, details))


def _explain(
    model: type[BaseModel], value: Any, details: list[ErrorDetails]
) -> Iterator[tuple[KeyPath, str]]:
    wanted: dict[KeyPath, list[str]] = {}
    given: dict[KeyPath, Any] = {}
    for detail in details:
        kind, context = detail["type"], detail.get("ctx", {})
        path, models, inside = _resolve(
            model, value, detail["loc"], is_last_absent=kind == "missing"
        )
        if kind in ("value_error", "assertion_error"):
            yield path, str(context["error"])
        elif kind == "missing":
            yield path, _missing(models, str(path[-1]))
        elif kind == "extra_forbidden":
            yield path, _unknown(model, models, path, str(path[-1]))
        elif kind == "union_tag_not_found":
            tag_name = _unquoted(context["discriminator"])[0]
            options = [tag for member in inside for tag in _tags(member, tag_name)]
            yield (*path, tag_name), f"is missing; {did_you_mean('', options)}"
        elif kind == "union_tag_invalid":
            options = _unquoted(context["expected_tags"])
            tag_path = (*path, _unquoted(context["discriminator"])[0])
            yield tag_path, f"{shown(context['tag'])}: {did_you_mean(context['tag'], options)}"
        else:
            given[path] = detail["input"]
            wanted.setdefault(path, []).append(_requirement(detail, context))
    for path, requirements in wanted.items():
        yield path, _unfit(given[path], list(dict.fromkeys(requirements)))


def _unfit(given: Any, requirements: list[str]) -> str:
    if given is None:
        found = "no value is given"
    elif isinstance(given, dict):
        found = "a group of settings is given"
    else:
        found = f"{shown(given)} is given"
    others = [requirement.removeprefix("must be ") for requirement in requirements[1:]]
    return f"{found}; {' or '.join(requirements[:1] + others)}"


def _missing(models: list[type[BaseModel]], name: str) -> str:
    fields = [model.model_fields[name] for model in models if name in model.model_fields]
    meaning = fields[0].description if fields else None
    sentence = re.split(r"[.;:](?:\s|$)", " ".join((meaning or "").split()), maxsplit=1)[0]
    return f"is missing{f' ({sentence})' if sentence else ''}"


def _unknown(root: type[BaseModel], models: list[type[BaseModel]], path: KeyPath, name: str) -> str:
    here = [field for model in models for field in model.model_fields]
    everywhere = [there for there in _all_paths(root) if there != path]
    places = [f'"{dotted(there)}"' for there in everywhere if there[-1] == name]
    if places:
        return f"no such setting here; did you mean {' or '.join(dict.fromkeys(places))}?"
    return f"no such setting; {did_you_mean(name, here) or 'this group has none'}"


def _requirement(detail: ErrorDetails, context: dict[str, Any]) -> str:
    """What a value must be, to follow "must be" or "choose"."""
    kind = detail["type"]
    if kind in ("literal_error", "enum"):
        options = _unquoted(context["expected"])
        given = detail["input"] if isinstance(detail["input"], str) else ""
        if options:
            return did_you_mean(given, options)
    if kind in _REQUIREMENTS:
        return _REQUIREMENTS[kind](context)
    message = detail["msg"].removeprefix("Input should be ")
    return f"must be {message}" if message != detail["msg"] else message[0].lower() + message[1:]


def _unquoted(listing: object) -> list[str]:
    """The names in pydantic's "'a', 'b' or 'c'"."""
    return re.findall(r"'([^']*)'", str(listing))


_WHOLE = "must be a whole number"
_NUMBER = "must be a number"
_GROUP = "must be a group of settings (`name: value` lines)"
_LIST = "must be a list, e.g. [1, 2]"
_REQUIREMENTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "int_type": lambda _: _WHOLE,
    "int_from_float": lambda _: _WHOLE,
    "float_type": lambda _: _NUMBER,
    "finite_number": lambda _: "must be a finite number",
    "bool_type": lambda _: "must be true or false",
    "string_type": lambda _: "must be text",
    "path_type": lambda _: "must be a path",
    "none_required": lambda _: "must be null",
    "model_type": lambda _: _GROUP,
    "model_attributes_type": lambda _: _GROUP,
    "dict_type": lambda _: _GROUP,
    "list_type": lambda _: _LIST,
    "tuple_type": lambda _: _LIST,
    "set_type": lambda _: _LIST,
    "frozen_set_type": lambda _: _LIST,
    "greater_than": lambda c: f"must be more than {c['gt']}",
    "greater_than_equal": lambda c: f"must be {c['ge']} or more",
    "less_than": lambda c: f"must be less than {c['lt']}",
    "less_than_equal": lambda c: f"must be {c['le']} or less",
    "multiple_of": lambda c: f"must be a multiple of {c['multiple_of']}",
    "too_short": lambda c: f"must have at least {c['min_length']} (has {c['actual_length']})",
    "too_long": lambda c: f"must have at most {c['max_length']} (has {c['actual_length']})",
    "string_too_short": lambda c: f"must have at least {c['min_length']} characters",
    "string_too_long": lambda c: f"must have at most {c['max_length']} characters",
    "string_pattern_mismatch": lambda c: f"must match {c['pattern']}",
}


def _resolve(
    root: type[BaseModel], value: Any, location: tuple[int | str, ...], is_last_absent: bool
) -> tuple[KeyPath, list[type[BaseModel]], list[type[BaseModel]]]:
    """Turn pydantic's location, which names union members too, into the path in the YAML.

    Returns:
        The path; the models that may stand for the group which holds its last key; the models
        that may stand at the path itself.
    """
    path: list[int | str] = []
    candidates: list[Any] = [root]
    holders: list[type[BaseModel]] = [root]
    for position, part in enumerate(location):
        models = _models(candidates)
        is_absent = is_last_absent and position == len(location) - 1
        is_key = is_absent or (isinstance(value, dict) and part in value)
        fields = [model.model_fields[str(part)] for model in models if part in model.model_fields]
        if is_key or isinstance(part, int):
            holders = models
            candidates = [field.annotation for field in fields] or candidates
            value = _descend(value, part)
            path.append(part)
        elif any(_has_tag(model, str(part)) for model in models):
            candidates = [model for model in models if _has_tag(model, str(part))]
            holders = _models(candidates)
    return tuple(path), holders, _models(candidates)


def _descend(value: Any, part: int | str) -> Any:
    """What stands at `part`; None where nothing does, as in a list that is too short."""
    if isinstance(value, list):
        value = dict(enumerate(value))
    return value.get(part) if isinstance(value, dict) else None


def _models(annotations: list[Any]) -> list[type[BaseModel]]:
    """Every settings model inside the annotations: through unions, lists and Annotated."""
    found: list[type[BaseModel]] = []
    for annotation in annotations:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        else:
            found += _models(list(get_args(annotation)))
    return found


def _tags(model: type[BaseModel], name: str) -> tuple[str, ...]:
    """The values that a model allows for the field that tells a union's members apart."""
    field = model.model_fields.get(name)
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _has_tag(model: type[BaseModel], tag: str) -> bool:
    return any(tag in _tags(model, name) for name in model.model_fields)


def _all_paths(root: type[BaseModel], prefix: KeyPath = ()) -> Iterator[KeyPath]:
    for name, field in root.model_fields.items():
        yield (*prefix, name)
        for model in _models([field.annotation]):
            if len(prefix) < 5:  # a model may hold itself
                yield from _all_paths(model, (*prefix, name))
