"""The data sets of `stages/data/datasets`: a new module there is found by itself."""

import importlib
import pkgutil

from stages.data import datasets
from stages.data.dataset import Dataset

CATALOGUE: dict[str, Dataset] = {
    module.name: importlib.import_module(f"{datasets.__name__}.{module.name}").DATASET
    for module in pkgutil.iter_modules(datasets.__path__)
}
"""Data set by the name that a pipeline file uses."""
