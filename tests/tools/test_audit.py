"""What an audit finds, and that it finds nothing where nothing is wrong."""

import re
from fractions import Fraction

import pytest

from pipeline.errors import StageError, UserError
from pipeline.store.digests import file_digests
from stages.data.radius import largest_float_up_to
from stages.data.records import (
    read_records,
    read_summary,
    summarise,
    write_records,
    write_summary,
)
from tools.audit import attack_again, audit, gather_evidence, prove_by_hand


@pytest.fixture
def certified(any_world, tools):
    """The folder of a certify stage."""
    return any_world.certify(tools.settings_for(batch_size=40))


def forge(folder, change, tools):
    """Change one row that `change` accepts, and everything that is derived from the rows."""
    rows = read_records(folder / "records.csv")
    number, row = next(
        (number, changed) for number, changed in enumerate(map(change, rows)) if changed is not None
    )
    rows[number] = row
    write_records(folder / "records.csv", rows)
    old = read_summary(folder)
    grid = [point.eps for point in old.eps_grid]
    write_summary(folder, summarise(rows, old.split, old.norm, old.eps, grid, old.certified_method))
    sign_anew(folder, tools)
    return row.key


def sign_anew(folder, tools):
    """As a forger would who knows of stage.json."""
    settings = tools.settings_for(batch_size=40)
    names = [path.name for path in folder.iterdir() if path.name != "stage.json"]
    record = tools.stage_record(settings, file_digests(folder, sorted(names)))
    (folder / "stage.json").write_text(record.model_dump_json())


def changed(row, **fields):
    radius = fields.get("exact_radius", row.exact_radius)
    return type(row)(**(row.model_dump() | {"radius": largest_float_up_to(radius)} | fields))


def longer(row):
    return changed(row, exact_radius=row.exact_radius * 2) if row.certified else None


def shorter(row):
    if not row.certified:
        return None
    return changed(row, exact_radius=row.exact_radius - Fraction(1, 10**6))


def test_honest_records_stand(certified, capsys):
    audit(certified / "records.csv", None, 40, 0)
    output = capsys.readouterr().out
    assert output.count(": right (") == 5
    assert "every row stands" in output


def test_rows_are_drawn_anew_each_time_and_the_draw_is_named(certified, capsys):
    audit(certified, None, 1, None)
    audit(certified, None, 1, None)
    seeds = re.findall(r"seed (\d+)", capsys.readouterr().out)
    assert len(set(seeds)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (longer, "exact_radius is .*, proved is"),
        (shorter, "exact_radius is .*, proved is"),
        (lambda row: changed(row, margin=row.margin * 1.0001), "margin is"),
        (lambda row: changed(row, image_sha256="0" * 64), "image_sha256 is not that"),
        (
            lambda row: None if row.is_correct else changed(row, label=row.predicted),
            "label is",
        ),
        (lambda row: changed(row, method="interval") if row.method == "margin" else None, "method"),
    ],
)
def test_a_forged_row_is_named_though_all_figures_agree(certified, tools, change, message):
    key = forge(certified, change, tools)
    with pytest.raises(StageError, match=f"{key}: {message}"):
        audit(certified, None, 1, 0)


def test_a_forged_verdict_of_the_attack_is_found_if_it_is_drawn(certified, tools):
    def unbroken(row):
        return None if row.pgd_correct or not row.is_correct else changed(row, pgd_correct=True)

    key = forge(certified, unbroken, tools)
    with pytest.raises(StageError, match=f"{key}: pgd_correct is True, the attack says False"):
        audit(certified, None, 40, 0)


def test_python_integers_refute_a_radius_that_is_too_long(certified, tools):
    key = forge(certified, longer, tools)
    evidence = gather_evidence(certified, None)
    findings = list(prove_by_hand(evidence, list(range(40))))
    assert len(findings) == 1 and findings[0].startswith(f"{key}: radius ")


def test_the_attack_breaks_an_image_that_is_certified_wrongly(certified, tools):
    def broken(row):
        if row.attacked_correct or not row.is_correct:
            return None
        fields = {"certified": True, "attacked_correct": True, "pgd_correct": True}
        return changed(row, exact_radius=Fraction(1, 5), **fields)

    key = forge(certified, broken, tools)
    findings = list(attack_again(gather_evidence(certified, None), list(range(40))))
    assert f"{key}: certified at eps 1/10, but the attack breaks it" in findings


def test_another_summary_is_found(certified, tools):
    summary = read_summary(certified)
    write_summary(certified, summary.model_copy(update={"num_clean_correct": 40}))
    sign_anew(certified, tools)
    with pytest.raises(StageError, match=r"summary\.json is not what the rows add up to"):
        audit(certified, None, 1, 0)


def test_a_file_changed_since_the_stage_ended_is_found(certified):
    path = certified / "records.csv"
    path.write_text(path.read_text().replace(",true,margin,", ",true,margin,0", 1))
    with pytest.raises(StageError, match=r"records\.csv"):
        audit(certified, None, 1, 0)


def test_a_missing_row_is_found(certified):
    rows = read_records(certified / "records.csv")
    write_records(certified / "records.csv", rows[:-1])
    with pytest.raises(StageError, match="1 missing"):
        audit(certified, None, 1, 0)


def test_what_cannot_be_audited_is_said(world, tools, tmp_path):
    with pytest.raises(UserError, match=r"no records\.csv here"):
        audit(tmp_path / "nothing", None, 1, 0)
    folder = world.certify(tools.settings_for(certifier={"kind": "float"}))
    with pytest.raises(UserError, match="only exact can be audited"):
        audit(folder, None, 1, 0)
