"""What a report says when a pruned network stands beside the full one."""

import json
import re
from fractions import Fraction

import pytest
from pydantic import ValidationError

from pipeline.errors import StageError
from stages.report.config import Inputs

FULL = {"data": "shard", "network": "train", "records": "certify"}


@pytest.fixture(scope="module")
def pruned_report(tmp_path_factory, make_report):
    return make_report(tmp_path_factory.mktemp("pruned"), pruned_eps=Fraction(1, 10))


def test_both_networks_stand_in_one_table(pruned_report) -> None:
    for name in ("index.html", "report.md"):
        text = re.sub(r"<[^>]*>|\|", " ", (pruned_report / name).read_text())
        rows = re.findall(r"(?:train|prune) +[\d,]+ +[\d.]+ [kM]?B .*", text)
        assert [row.split()[:2] for row in rows] == [["train", "2,000"], ["prune", "65"]]


def test_every_layer_is_listed(pruned_report) -> None:
    text = (pruned_report / "report.md").read_text()
    assert "| 1 | 1,000 | 40 | 16 | 13 | 1 | 2 |" in text
    assert "| 2 | 1,000 | 25 | 16 | 10 | 1 | 2 |" in text


def test_figures_are_on_the_page_and_in_files_of_their_own(pruned_report) -> None:
    page = (pruned_report / "index.html").read_text()
    for name in ("prune-sparsity", "prune-uses"):
        assert f'id="{name}-title"' in page
        assert (pruned_report / f"{name}.svg").read_text().startswith("<?xml")
    assert "1,800 of 2,000 edges (90.0%) decide for no training image" in page


def test_programs_find_the_counts(pruned_report) -> None:
    pair = json.loads((pruned_report / "report.json").read_text())["pruned_pair"]
    assert pair["pruning"]["layers"][1]["num_edges"] == 25
    assert pair["full"]["num_edges"] == 2000
    assert pair["pruned"]["num_edges"] == 65


def test_the_pipeline_to_repeat_has_every_stage(pruned_report) -> None:
    spec = (pruned_report / "quickstart.yaml").read_text()
    for stage in ("shard:", "train:", "prune:", "certify:", "certify_pruned:", "report:"):
        assert f"  {stage}" in spec


def test_a_report_on_a_pruned_network_alone_names_the_stages_behind_it(
    tmp_path, make_report
) -> None:
    folder = make_report(tmp_path, pruned_eps=Fraction(1, 10), is_pruned_alone=True)
    spec = (folder / "quickstart.yaml").read_text()
    for stage in ("shard:", "train:", "prune:", "certify_pruned:"):
        assert f"  {stage}" in spec
    (network,) = json.loads((folder / "report.json").read_text())["networks"]
    assert (network["kind"], network["num_parameters"]) == ("sparse_mlp", 40 + 25 + 10)


def test_without_a_pruned_network_nothing_is_said_of_pruning(report_dir) -> None:
    assert "Pruning" not in (report_dir / "index.html").read_text()
    assert "Pruning" not in (report_dir / "report.md").read_text()


def test_records_at_another_eps_are_refused(tmp_path, make_report) -> None:
    with pytest.raises(StageError, match=r"at eps 1/5, the network's own .*; certify both alike"):
        make_report(tmp_path, pruned_eps=Fraction(1, 5))


@pytest.mark.parametrize("name", ["pruned", "pruned_records"])
def test_a_pruned_network_and_its_records_belong_together(name) -> None:
    with pytest.raises(ValidationError, match=r"give both or neither"):
        Inputs.model_validate(FULL | {name: "prune"})
