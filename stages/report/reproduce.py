"""How to get the same figures again: commands, and the pipeline with every setting written out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from pipeline.execution.context import Context
from pipeline.spec.load import base_name
from pipeline.spec.settings import nested_inputs
from pipeline.store.artifacts import StageRecord
from stages.report.config import Settings
from stages.report.formats import machine_text
from stages.report.model import Reproduction


def reproduction(
    context: Context, settings: Settings, stages: Sequence[StageRecord]
) -> Reproduction:
    """Commands and spec that repeat the run whose stages are given.

    The spec is made from the stages' own records, so overrides of the command line are in it.
    """
    spec_name = f"{context.pipeline}.yaml"
    commits = dict.fromkeys(stage.git_commit for stage in stages if stage.git_commit)
    num_ranks = max(stage.num_ranks for stage in stages)
    own_settings = settings.model_dump(mode="json")
    spec = {
        "name": context.pipeline,
        **({"matrix": context.sweep.matrix} if context.sweep else {}),
        "stages": {
            **{base_name(stage.stage): _entry(stage) for stage in stages},
            context.stage: {"kind": "report", **own_settings},
        },
    }
    return Reproduction(
        commands=(
            *(f"git checkout {commit}" for commit in list(commits)[-1:]),
            "make setup",
            f".venv/bin/python -m pipeline run {spec_name} --ranks {num_ranks}",
        ),
        facts=(
            ("code", _told_apart(stages, _code)),
            (
                "seed",
                _told_apart(
                    stages, lambda stage: "none" if stage.seed is None else str(stage.seed)
                ),
            ),
            ("ranks", _told_apart(stages, lambda stage: str(stage.num_ranks))),
            ("machine", _told_apart(stages, lambda stage: machine_text(stage.machine))),
            ("packages", _told_apart(stages, _packages)),
        ),
        spec_name=spec_name,
        spec=yaml.safe_dump(
            spec, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
        ),
    )


def _entry(stage: StageRecord) -> dict[str, Any]:
    inputs = nested_inputs({name: base_name(read.stage) for name, read in stage.inputs.items()})
    settings = {name: value for name, value in stage.settings.items() if name != "inputs"}
    return {"kind": stage.kind, **({"inputs": inputs} if inputs else {}), **settings}


def _told_apart(stages: Sequence[StageRecord], fact: Callable[[StageRecord], str]) -> str:
    """A fact once where all stages agree, else with the stages that each version belongs to."""
    owners = defaultdict[str, list[str]](list)
    for stage in stages:
        owners[fact(stage)].append(stage.stage)
    if len(owners) == 1:
        return next(iter(owners))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in owners.items())


def _code(stage: StageRecord) -> str:
    if stage.git_commit is None:
        return "no commit recorded"
    return f"commit {stage.git_commit}{', with uncommitted changes' * stage.git_has_changes}"


def _packages(stage: StageRecord) -> str:
    return ", ".join(f"{name} {version}" for name, version in stage.packages.items())
