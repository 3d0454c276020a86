"""A pipeline's YAML file as validated settings, or every mistake in it at once."""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.complaints import validate
from pipeline.document import Document, read_document
from pipeline.errors import UserError
from pipeline.graph import running_order, wiring_mistakes
from pipeline.mistakes import did_you_mean, nearest, shown
from pipeline.overrides import apply_override
from pipeline.settings import Inputs, StageSettings

STAGE_PACKAGE = "stages"
"""Where stages are found by their kind: `stages/<kind>/config.py` and `stages/<kind>/run.py`."""

_PIPELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_TOP = ("name", "stages")


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline."""

    name: str
    kind: str
    settings: StageSettings
    inputs: Mapping[str, str]
    """Input name -> name of the stage that it comes from."""


@dataclass(frozen=True)
class Spec:
    """A pipeline that can run: every setting valid, every input there."""

    path: Path
    name: str
    stages: tuple[Stage, ...]
    """In running order: a stage stands behind the stages that it reads."""
    package: str = STAGE_PACKAGE

    def stage(self, name: str) -> Stage:
        """The stage of this name.

        Raises:
            UserError: there is none.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise UserError(f"{self.path}: no stage {shown(name)}; {did_you_mean(name, names)}")
        return self.stages[names.index(name)]


def load_spec(path: Path, overrides: Sequence[str] = (), package: str = STAGE_PACKAGE) -> Spec:
    """Read a spec and check all of it, importing nothing but the stages' `config.py`.

    Args:
        path: the YAML file.
        overrides: values in place of the file's: `stages.train.epochs=3`.
        package: the package that holds the kinds of stage.

    Raises:
        UserError: the file cannot be read, or holds mistakes: each is named with its line, what is
            wrong, and what would be right.
    """
    document = read_document(_content(path), str(path))
    if isinstance(document.value, dict):
        for number, override in enumerate(overrides):
            apply_override(document, override, number)
        stages = _check(document, package)
    if document.mistakes:
        mistakes = sorted(document.mistakes)
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise UserError("\n".join([f"{path}: {count}", *map(str, mistakes)]))
    order = running_order({stage.name: stage.inputs for stage in stages})
    by_name = {stage.name: stage for stage in stages}
    return Spec(path, document.value["name"], tuple(by_name[name] for name in order), package)


def load_settings_class(package: str, kind: str) -> type[StageSettings]:
    """The class `Settings` of `<package>/<kind>/config.py`."""
    settings: type[StageSettings] = importlib.import_module(f"{package}.{kind}.config").Settings
    assert issubclass(settings, StageSettings), f"{settings} must be a StageSettings"
    return settings


def stage_kinds(package: str) -> list[str]:
    """Every kind of stage: the packages that hold both a `config.py` and a `run.py`."""
    folder = importlib.import_module(package).__path__
    return [
        found.name
        for found in pkgutil.iter_modules(folder)
        if found.ispkg
        and all(
            importlib.util.find_spec(f"{package}.{found.name}.{part}") for part in ("config", "run")
        )
    ]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        near = nearest(path.name, _spec_files(path.parent))
        hint = f"; did you mean {path.parent / near}?" if near else ""
        raise UserError(f"{path}: there is no such file{hint}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"{path}: cannot be read: {reason}") from None


def _spec_files(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.y*ml")] if folder.is_dir() else []


def _check(document: Document, package: str) -> list[Stage]:
    """Every valid stage; what is wrong is noted in the document."""
    spec = document.value
    for key in [key for key in spec if key not in _TOP]:
        document.complain((key,), f"no such setting; {did_you_mean(key, _TOP)}")
    _check_name(document, spec)
    stages = spec.get("stages")
    if not isinstance(stages, dict) or not stages:
        if not document.has_mistake_at(("stages",)):
            document.complain(
                ("stages",), "is missing; it holds a group of settings for each stage"
            )
        return []
    kinds = stage_kinds(package)
    found = {name: _check_stage(document, name, stages[name], package, kinds) for name in stages}
    _check_wiring(document, stages, package, kinds)
    return [stage for stage in found.values() if stage]


def _check_name(document: Document, spec: dict[str, Any]) -> None:
    name = spec.get("name")
    if document.has_mistake_at(("name",)):
        return
    if name is None:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(document.file_name).stem)
        document.complain(
            ("name",), f"is missing; it names the folder of results, e.g. name: {stem}"
        )
    elif not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name):
        message = "names a folder: use letters, digits and . _ -, and begin with a letter or digit"
        document.complain(("name",), f"{shown(name)} {message}")


def _check_stage(
    document: Document, name: str, value: Any, package: str, kinds: list[str]
) -> Stage | None:
    path = ("stages", name)
    if not _STAGE_NAME.fullmatch(name):
        message = "a stage's name is letters, digits, _ and -, and begins with a letter or digit"
        document.complain(path, message)
        return None
    kind = _kind_of(name, value)
    if document.has_mistake_at(path) or document.has_mistake_at((*path, "kind")):
        return None
    if value is not None and not isinstance(value, dict):
        document.complain(path, f"{shown(value)} is given; a stage is a group of settings")
        return None
    if kind not in kinds:
        has_kind = isinstance(value, dict) and "kind" in value
        message = f"no kind of stage is called {shown(kind)}; {did_you_mean(str(kind), kinds)}"
        hint = "" if has_kind else " (or name one with `kind:`)"
        document.complain((*path, "kind") if has_kind else path, message + hint)
        return None
    # An absent `inputs` is filled in, so that each missing input is named.
    given = {"inputs": {}, **{key: item for key, item in (value or {}).items() if key != "kind"}}
    settings = validate(load_settings_class(package, str(kind)), given)
    if isinstance(settings, StageSettings):
        inputs = {key: item for key, item in settings.inputs if isinstance(item, str)}
        return Stage(name, str(kind), settings, inputs)
    for inner, message in settings:
        if not document.has_mistake_at((*path, *inner)):
            document.complain((*path, *inner), message)
    return None


def _kind_of(name: str, stage: Any) -> Any:
    return stage.get("kind", name) if isinstance(stage, dict) else name


def _check_wiring(
    document: Document, stages: dict[str, Any], package: str, known_kinds: list[str]
) -> None:
    """Check the inputs as written, so that a wrong setting elsewhere hides no wrong input."""
    wiring: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}
    declared: dict[str, type[Inputs]] = {}
    for name, stage in stages.items():
        given = stage.get("inputs") if isinstance(stage, dict) else None
        named = given.items() if isinstance(given, dict) else ()
        wiring[name] = {key: item for key, item in named if isinstance(item, str)}
        kind = _kind_of(name, stage)
        if kind in known_kinds:
            kinds[name] = kind
            declared[name] = _inputs_class(package, kind)
            wiring[name] = {
                key: item
                for key, item in wiring[name].items()
                if key in declared[name].model_fields
            }
    for path, message in wiring_mistakes(wiring, kinds, declared):
        if not document.has_mistake_at(path):
            document.complain(path, message)


def _inputs_class(package: str, kind: str) -> type[Inputs]:
    field = load_settings_class(package, kind).model_fields["inputs"].annotation
    assert isinstance(field, type) and issubclass(field, Inputs), f"inputs of {kind}: {field}"
    return field
