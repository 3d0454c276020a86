"""Datasets whose files tests write themselves, and a place for a stage to write to."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.execution.context import Context
from stages.data.catalogue import CATALOGUE
from stages.data.dataset import Dataset
from stages.shard.source import SourceContext
from tests.end_to_end.true_formats import without_published_figures


@pytest.fixture
def toy() -> Callable[..., Dataset]:
    """`toy("mnist")`: the catalogue's entry without its checksums and numbers of images."""

    def make(name: str, **changes: object) -> Dataset:
        return dataclasses.replace(without_published_figures(CATALOGUE[name]), **changes)

    return make


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """The surroundings of a shard stage."""
    output_dir = tmp_path / "output"
    output_dir.mkdir()
    return Context("toy", "shard", output_dir, {})


@pytest.fixture
def source_context(tmp_path: Path, context: Context) -> SourceContext:
    """An empty folder for unpacked files, and the stage's progress display."""
    scratch_dir = tmp_path / "scratch"
    scratch_dir.mkdir()
    return SourceContext(scratch_dir, context.track)
