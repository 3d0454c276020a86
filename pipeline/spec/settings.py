"""What a stage's `config.py` is built from: frozen pydantic models, read from YAML, no torch."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, get_args

from pydantic import AfterValidator

from pipeline.files import FrozenModel
from pipeline.spec.diagnostics import shown


class Settings(FrozenModel):
    """A frozen group of settings; a field's docstring gives meaning, unit and trade-off.

    A validator of a subclass raises ValueError with a message for the user; `pipeline check`
    prints it beside the file and line of the setting.
    """


class Kinds:
    """Says which kinds of stage an input may name: `network: Annotated[str, Kinds("train")]`."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds


class Inputs(Settings):
    """The artifacts that a stage reads: one field an input, its value the name of a stage.

    A field is annotated with the `Kinds` that fit; a field `... | None = None` may be left out, a
    field `tuple[..., ...]` takes a list of stages.
    """

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether an input, or a list of inputs, of this name is declared."""
        return name.partition("-")[0] in cls.model_fields

    @classmethod
    def kinds_that_fit(cls, name: str) -> tuple[str, ...] | None:
        """The kinds of stage that input `name` may come from; None: any kind."""
        field = cls.model_fields[name.partition("-")[0]]
        return _declared_kinds((*field.metadata, field.annotation))


def text_like(pattern: str, message: str) -> AfterValidator:
    """Refuse, with a message about what is right, a text that does not match all of a pattern."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"{shown(text)}: {message}")
        return text

    return AfterValidator(check)


def flat_inputs(inputs: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """The stage of every input by its name; the entries of a list are numbered: `records-1`."""
    flat: dict[str, str] = {}
    for name, given in inputs:
        if isinstance(given, str):
            flat[name] = given
        elif isinstance(given, list | tuple):
            entries = enumerate(given, start=1)
            flat |= {f"{name}-{number}": one for number, one in entries if isinstance(one, str)}
    return flat


def nested_inputs(flat: Mapping[str, str]) -> dict[str, str | list[str]]:
    """What `flat_inputs` was made from; its entries may come in any order."""
    nested: dict[str, str | list[str]] = {}
    lists = defaultdict[str, dict[int, str]](dict)
    for key, source in flat.items():
        name, _, number = key.partition("-")
        if number:
            lists[name][int(number)] = source
        else:
            nested[name] = source
    return nested | {name: [one for _, one in sorted(got.items())] for name, got in lists.items()}


def input_path(name: str) -> tuple[str | int, ...]:
    """Where an input of that name stands below `inputs` in a spec."""
    field, _, number = name.partition("-")
    return (field, int(number) - 1) if number else (field,)


class StageSettings(Settings):
    """Settings of one stage; `stages/<kind>/config.py` calls its subclass `Settings`."""

    code_packages: ClassVar[tuple[str, ...]] = ()
    """Packages besides the stage's own whose sources decide the result."""

    max_ranks: ClassVar[int | None] = None
    """The most processes that can share this stage; None: as many as the machine offers."""

    aggregates_sweep: ClassVar[bool] = False
    """True for a stage that is made once, from all members of a sweep."""

    runtime_only: ClassVar[tuple[str, ...]] = ()
    """Settings that change how fast a result comes but not the result: changing one neither makes
    an artifact stale nor keeps an earlier attempt from being continued."""

    inputs: Inputs = Inputs()


def _declared_kinds(annotations: tuple[Any, ...]) -> tuple[str, ...] | None:
    for annotation in annotations:
        if isinstance(annotation, Kinds):
            return annotation.kinds
        declared = _declared_kinds(get_args(annotation))
        if declared is not None:
            return declared
    return None
