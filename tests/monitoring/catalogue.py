"""Every metric of the project, found where it is declared."""

import importlib
from pathlib import Path

from pipeline.monitor.metrics import Metric

STAGES = Path(__file__).parents[2] / "stages"


def catalogue() -> list[Metric]:
    """The metrics that each stage shares, then those of each `stages/<kind>/metrics.py`."""
    kinds = sorted(path.parent.name for path in STAGES.glob("*/metrics.py"))
    names = ["pipeline.monitor.metrics", *(f"stages.{kind}.metrics" for kind in kinds)]
    modules = map(importlib.import_module, names)
    return [found for m in modules for found in vars(m).values() if isinstance(found, Metric)]
