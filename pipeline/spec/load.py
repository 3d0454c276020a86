"""A pipeline's YAML file as validated settings, or every mistake in it at once."""

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.spec.diagnostics import did_you_mean, nearest, shown
from pipeline.spec.graph import running_order, wiring_mistakes
from pipeline.spec.overrides import apply_override
from pipeline.spec.resources import PipelineResources
from pipeline.spec.settings import Inputs, StageSettings, flat_inputs
from pipeline.spec.sweep import (
    Axis,
    Member,
    Sweep,
    axes_of_stages,
    blame_member,
    full_name,
    members_over,
    read_axes,
    sweep_of,
    with_member,
)
from pipeline.spec.validation import validate
from pipeline.spec.yaml_document import Document, read_document

STAGE_PACKAGE = "stages"
"""Where stages are found by their kind: `stages/<kind>/config.py` and `stages/<kind>/run.py`."""

_PIPELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_TOP = ("name", "matrix", "resources", "stages")


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline."""

    name: str
    kind: str
    settings: StageSettings
    inputs: Mapping[str, str]
    """Input name -> name of the stage that it comes from."""
    member: int | None = None
    """Which member of a sweep it is, counted from 0; None: the stage is made once."""
    sweep: Sweep | None = None
    """The members that it aggregates_sweep; None: it reads one artifact an input."""

    @property
    def base(self) -> str:
        """Its name as written in the spec, which all members share."""
        return base_name(self.name)


@dataclass(frozen=True)
class Spec:
    """A pipeline that can run: every setting valid, every input there."""

    path: Path
    name: str
    stages: tuple[Stage, ...]
    """In running order: a stage stands behind the stages that it reads."""
    package: str = STAGE_PACKAGE
    resources: PipelineResources = field(default_factory=PipelineResources)

    def stage(self, name: str) -> Stage:
        """The stage of exactly this name.

        Raises:
            UserError: there is none.
        """
        return next(stage for stage in self.named(name) if stage.name == name)

    def named(self, name: str) -> list[Stage]:
        """The stage of this name, or all members of a sweep that share it.

        Raises:
            UserError: there is none.
        """
        found = [stage for stage in self.stages if name in (stage.name, stage.base)]
        if not found:
            names = [name for stage in self.stages for name in (stage.base, stage.name)]
            raise UserError(f"{self.path}: no stage {shown(name)}; {did_you_mean(name, names)}")
        return found


def base_name(name: str) -> str:
    """The name of a stage, or of an input, without the member of a sweep behind it."""
    return name.partition(".")[0]


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
    resources = PipelineResources()
    if isinstance(document.value, dict):
        for number, override in enumerate(overrides):
            apply_override(document, override, number)
        stages = _check(document, package)
        resources = _check_resources(document)
    if document.mistakes:
        mistakes = sorted(document.mistakes)
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise UserError("\n".join([f"{path}: {count}", *map(str, mistakes)]))
    order = running_order({stage.name: stage.inputs for stage in stages})
    by_name = {stage.name: stage for stage in stages}
    in_order = tuple(by_name[name] for name in order)
    return Spec(path, document.value["name"], in_order, package, resources)


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
        document.report((key,), f"no such setting; {did_you_mean(key, _TOP)}")
    _check_name(document, spec)
    stages = spec.get("stages")
    if not isinstance(stages, dict) or not stages:
        if not document.has_mistake_at(("stages",)):
            document.report(("stages",), "is missing; it holds a group of settings for each stage")
        return []
    kinds = stage_kinds(package)
    axes = read_axes(document)
    reach = axes_of_stages(axes, _check_wiring(document, stages, package, kinds))
    found = []
    for name in stages:
        for member in members_over(reach[name]):
            stage = _check_stage(document, name, member, package, kinds)
            if stage and stage.settings.aggregates_sweep:
                _refuse_own_axes(document, name, axes)
                found.append(_gathering(stage, reach, document.value.get("matrix", {})))
                break
            if stage:
                found.append(_as_member(stage, member, reach))
    return found


def _check_resources(document: Document) -> PipelineResources:
    given = document.value.get("resources", {})
    if document.has_mistake_at(("resources",)):
        return PipelineResources()
    if not isinstance(given, dict):
        message = f'{shown(given)} is given; must be a group, e.g. {{time: "4:00:00"}}'
        document.report(("resources",), message)
        return PipelineResources()
    found = validate(PipelineResources, given)
    if isinstance(found, list):
        for inner, message in found:
            document.report(("resources", *inner), message)
        return PipelineResources()
    names = document.value.get("stages")
    known = list(names) if isinstance(names, dict) else []
    for name in found.stages:
        if name not in known:
            message = f"no stage has this name; {did_you_mean(name, known)}"
            document.report(("resources", "stages", name), message)
    return found


def _check_name(document: Document, spec: dict[str, Any]) -> None:
    name = spec.get("name")
    if document.has_mistake_at(("name",)):
        return
    if name is None:
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", Path(document.file_name).stem)
        document.report(("name",), f"is missing; it names the folder of results, e.g. name: {stem}")
    elif not isinstance(name, str) or not _PIPELINE_NAME.fullmatch(name):
        message = "names a folder: use letters, digits and . _ -, and begin with a letter or digit"
        document.report(("name",), f"{shown(name)} {message}")


def _check_stage(
    document: Document, name: str, member: Member, package: str, kinds: list[str]
) -> Stage | None:
    """A stage with the settings that a member of a sweep gives it."""
    path = ("stages", name)
    value = document.value["stages"][name]
    if not _STAGE_NAME.fullmatch(name):
        message = "a stage's name is letters, digits, _ and -, and begins with a letter or digit"
        document.report(path, message)
        return None
    kind = _kind_of(name, value)
    if document.has_mistake_at(path) or document.has_mistake_at((*path, "kind")):
        return None
    if value is not None and not isinstance(value, dict):
        document.report(path, f"{shown(value)} is given; a stage is a group of settings")
        return None
    if kind not in kinds:
        has_kind = isinstance(value, dict) and "kind" in value
        message = f"no kind of stage is called {shown(kind)}; {did_you_mean(str(kind), kinds)}"
        hint = "" if has_kind else " (or name one with `kind:`)"
        document.report((*path, "kind") if has_kind else path, message + hint)
        return None
    # An absent `inputs` is filled in, so that each missing input is named.
    given = {"inputs": {}, **{key: item for key, item in (value or {}).items() if key != "kind"}}
    given = with_member(given, name, member)
    settings = validate(load_settings_class(package, str(kind)), given)
    if isinstance(settings, StageSettings):
        return Stage(name, str(kind), settings, flat_inputs(settings.inputs))
    for inner, message in settings:
        blame_member(document, (*path, *inner), message, member)
    return None


def _refuse_own_axes(document: Document, name: str, axes: Sequence[Axis]) -> None:
    for axis in axes:
        if name in axis.stages:
            message = f"{name} is made once, from all members; its own settings cannot vary"
            document.report(("matrix", axis.name), message)


def _as_member(stage: Stage, member: Member, reach: Mapping[str, Sequence[Axis]]) -> Stage:
    """One member of a sweep: it reads the members that share its values."""
    if not member:
        return stage
    inputs = {
        name: full_name(source, [pair for pair in member if pair[0] in reach.get(source, ())])
        for name, source in stage.inputs.items()
    }
    number = members_over(reach[stage.name]).index(member)
    return replace(stage, name=full_name(stage.name, member), inputs=inputs, member=number)


def _gathering(
    stage: Stage, reach: Mapping[str, Sequence[Axis]], matrix: Mapping[str, Any]
) -> Stage:
    """A stage that reads every member of the stages that it reads."""
    axes = reach[stage.name]
    if not axes:
        return stage
    inputs = {
        full_name(name, member): full_name(source, member)
        for name, source in stage.inputs.items()
        for member in members_over(reach.get(source, ()))
    }
    return replace(stage, inputs=inputs, sweep=sweep_of(matrix, axes))


def _kind_of(name: str, stage: Any) -> Any:
    return stage.get("kind", name) if isinstance(stage, dict) else name


def _check_wiring(
    document: Document, stages: dict[str, Any], package: str, known_kinds: list[str]
) -> dict[str, dict[str, str]]:
    """Check the inputs as written, so that a wrong setting elsewhere hides no wrong input."""
    wiring: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}
    declared: dict[str, type[Inputs]] = {}
    for name, stage in stages.items():
        given = stage.get("inputs") if isinstance(stage, dict) else None
        named = given.items() if isinstance(given, dict) else ()
        wiring[name] = flat_inputs(named)
        kind = _kind_of(name, stage)
        if kind in known_kinds:
            kinds[name] = kind
            declared[name] = _inputs_class(package, kind)
            wiring[name] = {
                key: item for key, item in wiring[name].items() if declared[name].has(key)
            }
    for path, message in wiring_mistakes(wiring, kinds, declared):
        if not document.has_mistake_at(path):
            document.report(path, message)
    return wiring


def _inputs_class(package: str, kind: str) -> type[Inputs]:
    field = load_settings_class(package, kind).model_fields["inputs"].annotation
    assert isinstance(field, type) and issubclass(field, Inputs), f"inputs of {kind}: {field}"
    return field
