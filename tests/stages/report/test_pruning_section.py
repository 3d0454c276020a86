"""What a report says when a pruned network stands beside the full one."""

import json
import re
from fractions import Fraction

import pytest

from pipeline.errors import StageError
from pipeline.store.artifacts import RECORD_NAME, read_stage_record


@pytest.fixture(scope="module")
def pruned_report(tmp_path_factory, make_report):
    return make_report(tmp_path_factory.mktemp("pruned"), pruned_eps=Fraction(1, 10))


def test_both_networks_stand_in_one_table(pruned_report) -> None:
    for name in ("index.html", "report.md"):
        plain = (pruned_report / name).read_text().replace("\\", "")
        text = re.sub(r"<[^>]*>|[|*]", " ", plain)
        rows = re.findall(r"This run, (\w+: \w+) .*?([\d,]+) parameters", text)
        assert rows == [("train: distance_mlp", "12,970"), ("prune: sparse_mlp", "75")]


def test_every_layer_is_listed(pruned_report) -> None:
    text = (pruned_report / "report.md").read_text()
    assert "| 1 | 1,000 | 40 | 16 | 13 | 1 | 2 |" in text
    assert "| 2 | 1,000 | 25 | 16 | 10 | 1 | 2 |" in text


def test_figures_are_on_the_page_and_in_files_of_their_own(pruned_report) -> None:
    page = (pruned_report / "index.html").read_text()
    for name in ("certify_pruned-sparsity", "certify_pruned-uses"):
        assert f'id="{name}-title"' in page
        assert (pruned_report / f"{name}.svg").read_text().startswith("<?xml")
    assert "1,800 of 2,000 edges (90.0%) decide for no training image" in page


def test_programs_find_the_counts(pruned_report) -> None:
    full, pruned = json.loads((pruned_report / "report.json").read_text())["networks"]
    assert full["pruning"] is None
    assert pruned["pruning"]["layers"][1]["num_edges"] == 25
    assert (pruned["name"], pruned["records"]) == ("prune", "certify_pruned")


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


def test_records_at_another_eps_stand_in_a_table_of_their_own(tmp_path, make_report) -> None:
    folder = make_report(tmp_path, pruned_eps=Fraction(1, 5))
    tables = json.loads((folder / "report.json").read_text())["comparisons"]
    assert [(one["eps"], len(one["networks"])) for one in tables] == [("1/10", 1), ("1/5", 1)]


def test_records_of_a_network_that_was_made_anew_since_are_refused(tmp_path, make_report) -> None:
    def make_anew(folder) -> None:
        path = folder / "train" / RECORD_NAME
        record = read_stage_record(path.parent).model_copy(update={"digest": "9" * 64})
        path.write_text(record.model_dump_json())

    with pytest.raises(StageError, match="certify was made from another train than"):
        make_report(tmp_path, spoil=make_anew)
