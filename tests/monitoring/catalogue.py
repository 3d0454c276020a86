"""Every metric of the project, found where it is declared."""

import importlib
from pathlib import Path

import yaml

from pipeline.monitor.metrics import Metric
from stages.train.config import Settings
from stages.train.metrics import column
from stages.train.objective import build_objective
from stages.train.schedule import Schedule

ROOT = Path(__file__).parents[2]


def catalogue() -> list[Metric]:
    """The metrics that stages share, those of each `stages/<kind>/metrics.py`, and columns."""
    kinds = sorted(path.parent.name for path in (ROOT / "stages").glob("*/metrics.py"))
    names = ["pipeline.monitor.metrics", *(f"stages.{kind}.metrics" for kind in kinds)]
    modules = map(importlib.import_module, names)
    declared = [found for m in modules for found in vars(m).values() if isinstance(found, Metric)]
    return declared + _columns()


def _columns() -> list[Metric]:
    """What family and loss of each config show of a step, of a network that is built in no time."""
    names: dict[str, None] = {}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        train = yaml.safe_load(path.read_text())["stages"]["train"]
        settings = Settings.model_validate(train | {"network": train["network"] | {"width": 2}})
        objective = build_objective(settings, (2, 2, 1), 2, eps_input=1.0)
        schedule = Schedule(settings, 1, objective.rule, objective.loss)
        names |= dict.fromkeys(schedule.at(0).columns)
    return [column(name) for name in names]
