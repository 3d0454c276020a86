"""A pipeline's YAML file as validated settings, or every mistake in it at once."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.errors import UserError
from pipeline.spec.diagnostics import did_you_mean, nearest, shown
from pipeline.spec.graph import running_order, wiring_mistakes
from pipeline.spec.overrides import apply_override
from pipeline.spec.resources import PipelineResources
from pipeline.spec.settings import Inputs, Settings, StageSettings, flat_inputs, text_like
from pipeline.spec.sweep import (
    Axis,
    AxisName,
    AxisSettings,
    Combination,
    Sweep,
    axes_of_stages,
    combinations_of,
    full_name,
    read_axes,
    report_in_sweep,
    sweep_of,
    with_combination,
)
from pipeline.spec.validation import validate
from pipeline.spec.yaml_document import Document, read_document

STAGE_PACKAGE = "stages"
"""Where stages are found by their kind: `stages/<kind>/config.py` and `stages/<kind>/run.py`."""

_FIRST = "beginning with a letter or digit"
StageName = Annotated[
    str,
    text_like(
        "[A-Za-z0-9][A-Za-z0-9_-]{0,99}",
        f"a stage's name is letters, digits, _ and -, {_FIRST}",
    ),
]


class SpecFile(Settings):
    """The top of a spec."""

    name: Annotated[
        str,
        text_like(
            "[A-Za-z0-9][A-Za-z0-9._-]{0,99}",
            f"a folder is named so: use letters, digits and . _ -, {_FIRST}",
        ),
    ]
    """The folder of results has this name."""
    stages: dict[StageName, dict[str, Any] | None] = Field(min_length=1)
    """By name, the settings of each stage."""
    matrix: dict[AxisName, AxisSettings] = Field(default_factory=dict)
    """By name, the axes of a sweep."""
    resources: PipelineResources = PipelineResources()
    """What the stages ask the cluster for."""


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
    """The members that it aggregates; None: it reads one artifact an input."""

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
    """In running order: a stage follows the stages that it reads."""
    package: str = STAGE_PACKAGE
    resources: PipelineResources = field(default_factory=PipelineResources)

    def stage(self, name: str) -> Stage:
        """Find the stage of exactly this name.

        Raises:
            UserError: there is none.
        """
        return next(stage for stage in self.named(name) if stage.name == name)

    def named(self, name: str) -> list[Stage]:
        """Find the stage of this name, or all members of a sweep that share it.

        Raises:
            UserError: there is none.
        """
        found = [stage for stage in self.stages if name in (stage.name, stage.base)]
        if not found:
            names = [name for stage in self.stages for name in (stage.base, stage.name)]
            raise UserError(f"{self.path}: no stage {shown(name)}; {did_you_mean(name, names)}")
        return found


def base_name(name: str) -> str:
    """Cut the member of a sweep off the name of a stage or of an input."""
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
    resources, stages = PipelineResources(), list[Stage]()
    if isinstance(document.value, dict):
        for number, override in enumerate(overrides):
            apply_override(document, override, number)
        top = _check_top(document)
        if top:
            resources, stages = top.resources, _check_stages(document, top, package)
    if document.mistakes:
        mistakes = sorted(document.mistakes)
        count = f"{len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}"
        raise UserError("\n".join([f"{path}: {count}", *map(str, mistakes)]))
    order = running_order({stage.name: stage.inputs for stage in stages})
    by_name = {stage.name: stage for stage in stages}
    in_order = tuple(by_name[name] for name in order)
    return Spec(path, document.value["name"], in_order, package, resources)


def load_settings_class(package: str, kind: str) -> type[StageSettings]:
    """Import the class `Settings` of `<package>/<kind>/config.py`."""
    settings: type[StageSettings] = importlib.import_module(f"{package}.{kind}.config").Settings
    assert issubclass(settings, StageSettings), f"{settings} must be a StageSettings"
    return settings


def stage_kinds(package: str) -> list[str]:
    """List the kinds of stage: the packages that hold both a `config.py` and a `run.py`."""
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


def _check_top(document: Document) -> SpecFile | None:
    """Check the top of a spec; of a wrong one, what is right is used to check the rest."""
    found = validate(SpecFile, document.value)
    if isinstance(found, list):
        right = dict(document.value)
        for path, message in found:
            document.report_once(path, message)
            key = str(path[0])
            if key in ("stages", "matrix") and len(path) > 1 and key in right:
                right[key] = {name: value for name, value in right[key].items() if name != path[1]}
            else:
                right.pop(key, None)
        found = validate(SpecFile, {"name": "wrong", **right})
    if isinstance(found, list):
        return None
    for name in found.resources.stages.keys() - document.value["stages"].keys():
        message = f"no stage has this name; {did_you_mean(name, document.value['stages'])}"
        document.report(("resources", "stages", name), message)
    return found


def _check_stages(document: Document, top: SpecFile, package: str) -> list[Stage]:
    """Make every valid stage; what is wrong is reported to the document."""
    kinds = stage_kinds(package)
    axes = read_axes(document, top.matrix)
    reach = axes_of_stages(axes, _check_wiring(document, package, kinds))
    found = []
    for name in top.stages:
        for combination in combinations_of(reach[name]):
            stage = _check_stage(document, name, combination, package, kinds)
            if stage and stage.settings.aggregates_sweep:
                _refuse_own_axes(document, name, axes)
                found.append(_aggregating(stage, reach, document.value.get("matrix", {})))
                break
            if stage:
                found.append(_as_member(stage, combination, reach))
    return found


def _check_stage(
    document: Document, name: str, combination: Combination, package: str, kinds: list[str]
) -> Stage | None:
    """Make a stage with the settings that a combination of a sweep gives it."""
    path = ("stages", name)
    value = document.value["stages"][name] or {}
    kind = value.get("kind", name)
    if document.has_mistake_at(path) or document.has_mistake_at((*path, "kind")):
        return None
    if kind not in kinds:
        message = f"no kind of stage is called {shown(kind)}; {did_you_mean(str(kind), kinds)}"
        hint = "" if "kind" in value else " (or name one with `kind:`)"
        document.report((*path, "kind") if "kind" in value else path, message + hint)
        return None
    # An absent `inputs` is filled in, so that each missing input is named.
    given = {"inputs": {}, **{key: item for key, item in value.items() if key != "kind"}}
    given = with_combination(given, name, combination)
    settings = validate(load_settings_class(package, str(kind)), given)
    if isinstance(settings, StageSettings):
        return Stage(name, str(kind), settings, flat_inputs(settings.inputs))
    for inner, message in settings:
        report_in_sweep(document, (*path, *inner), message, combination)
    return None


def _refuse_own_axes(document: Document, name: str, axes: Sequence[Axis]) -> None:
    for axis in axes:
        if name in axis.stages:
            message = f"{name} is made once, from all members; its own settings cannot vary"
            document.report(("matrix", axis.name), message)


def _as_member(
    stage: Stage, combination: Combination, reach: Mapping[str, Sequence[Axis]]
) -> Stage:
    """Make one member of a sweep of a stage; it reads the members that share its values."""
    if not combination:
        return stage
    inputs = {
        name: full_name(source, [pair for pair in combination if pair[0] in reach.get(source, ())])
        for name, source in stage.inputs.items()
    }
    number = combinations_of(reach[stage.name]).index(combination)
    return replace(stage, name=full_name(stage.name, combination), inputs=inputs, member=number)


def _aggregating(
    stage: Stage, reach: Mapping[str, Sequence[Axis]], matrix: Mapping[str, Any]
) -> Stage:
    """Let a stage read every member of the stages that it reads."""
    axes = reach[stage.name]
    if not axes:
        return stage
    inputs = {
        full_name(name, combination): full_name(source, combination)
        for name, source in stage.inputs.items()
        for combination in combinations_of(reach.get(source, ()))
    }
    return replace(stage, inputs=inputs, sweep=sweep_of(matrix, axes))


def _check_wiring(
    document: Document, package: str, known_kinds: list[str]
) -> dict[str, dict[str, str]]:
    """Check the inputs as written, so that a wrong setting elsewhere hides no wrong input."""
    wiring: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}
    declared: dict[str, type[Inputs]] = {}
    for name, value in document.value["stages"].items():
        stage = value if isinstance(value, dict) else {}
        inputs, kind = stage.get("inputs"), stage.get("kind", name)
        wiring[name] = flat_inputs(inputs.items() if isinstance(inputs, dict) else ())
        if kind in known_kinds:
            kinds[name] = kind
            declared[name] = _inputs_class(package, kind)
            wiring[name] = {
                key: item for key, item in wiring[name].items() if declared[name].has(key)
            }
    for path, message in wiring_mistakes(wiring, kinds, declared):
        document.report_once(path, message)
    return wiring


def _inputs_class(package: str, kind: str) -> type[Inputs]:
    field = load_settings_class(package, kind).model_fields["inputs"].annotation
    assert isinstance(field, type) and issubclass(field, Inputs), f"inputs of {kind}: {field}"
    return field
