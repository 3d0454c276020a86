"""Every verb, those over a pipeline and the tools: one set of options, each explained."""

import inspect
from pathlib import Path

import pytest

from pipeline.cli import Tool, all_verbs
from pipeline.selection import Selection

TOOLS = Path(__file__).parents[2] / "tools"
VERBS = all_verbs()
OVER_A_PIPELINE = [name for name, verb in VERBS.commands.items() if not isinstance(verb, Tool)]


def test_each_file_of_the_tools_is_a_verb():
    files = {path.stem.replace("_", "-") for path in TOOLS.glob("[a-z]*.py")}
    assert {name for name, verb in VERBS.commands.items() if isinstance(verb, Tool)} == files


@pytest.mark.parametrize("name", VERBS.commands)
def test_a_verb_and_each_of_its_options_is_explained(name):
    root = VERBS.make_context("supnorm", [name], resilient_parsing=True)
    context = VERBS.commands[name].make_context(name, [], root, resilient_parsing=True)
    assert context.command.help
    for parameter in context.command.params:
        assert parameter.help, f"{name} {parameter.name}"
    assert context.command.params[-1].opts == ["-q", "--quiet"]


@pytest.mark.parametrize("name", OVER_A_PIPELINE)
def test_every_verb_over_a_pipeline_chooses_its_stages_by_the_same_options(name):
    names = [parameter.name for parameter in VERBS.commands[name].params]
    shared = [field for field in inspect.signature(Selection).parameters if field != "context"]
    assert names[: len(shared)] == shared
