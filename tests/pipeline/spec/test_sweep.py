"""Sweeps: which members there are, what they are called, what is wrong with a matrix."""

import pytest

SWEEP = """
name: toy
matrix:
  count: {set: stages.make.count, values: [1, 2]}
  text:
    rows:
      plain: {stages.make.text: hello}
      "a b'\\"$(touch x)\\n/..": {stages.make.text: "hi", stages.make.tool: {kind: pen, width: 3}}
  separator: {set: [stages.join.separator], values: ["-", "+"]}
stages:
  other: {kind: make, text: alone}
  make: {}
  join: {inputs: {data: make}}
"""


def names(spec, base):
    return [stage.name for stage in spec.stages if stage.base == base]


def test_a_stage_is_made_once_for_each_combination_that_it_depends_on(desk):
    desk.write(SWEEP)
    spec = desk.load()
    assert names(spec, "other") == ["other"]
    assert len(names(spec, "make")) == 4
    assert len(names(spec, "join")) == 8
    assert [stage.member for stage in spec.stages if stage.base == "make"] == [0, 1, 2, 3]
    first, *_, last = [stage for stage in spec.stages if stage.base == "join"]
    assert first.inputs == {"data": "make.count-1.text-plain"}
    assert first.settings.separator == "-"
    assert last.inputs["data"].startswith("make.count-2.text-a_b_touch_x_-")
    make = spec.stage(last.inputs["data"])
    assert (make.settings.count, make.settings.text, make.settings.tool.width) == (2, "hi", 3)


def test_members_are_called_by_letters_that_harm_no_shell(desk):
    desk.write(SWEEP)
    for stage in desk.load().stages:
        assert set(stage.name) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
        )
    folders = [stage.name for stage in desk.load().stages]
    assert len(folders) == len(set(folders))


def test_a_sweep_runs_on_one_machine_and_every_member_is_its_own_artifact(desk):
    desk.write(SWEEP)
    desk.run()
    texts = {
        (desk.run_dir / name / "pages/text.txt").read_text() for name in names(desk.load(), "make")
    }
    assert texts == {"hello", "hellohello", "hi", "hihi"}
    assert desk.run().count("up to date") == 13
    # A value more makes its members only.
    plan = desk.plan("matrix.count.values=[1, 2, 3]")
    assert sum(words.startswith("runs: never run") for words in plan.values()) == 6


def test_a_gathering_stage_reads_every_member(desk):
    desk.write(SWEEP + "  all: {kind: gather, inputs: {pages: make, one: other}}\n")
    (stage,) = [stage for stage in desk.load().stages if stage.base == "all"]
    assert len(stage.inputs) == 5
    assert stage.inputs["one"] == "other"
    assert stage.inputs["pages.count-1.text-plain"] == "make.count-1.text-plain"
    assert stage.sweep.members["count-1.text-plain"] == {"count": "1", "text": "plain"}
    assert stage.sweep.seeds == ()
    desk.run()
    assert (desk.run_dir / "all/all.txt").read_text().count("count-") == 4


def test_axes_of_seeds_are_known(desk):
    desk.write(
        "name: toy\nmatrix:\n  s: {set: stages.make.seed, values: [0, 1]}\n"
        "stages:\n  make: {text: a}\n  all: {kind: gather, inputs: {pages: make, one: make}}\n"
    )
    assert desk.load().stage("all").sweep.seeds == ("s",)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("3", "matrix: 3 is given; must be a group of settings"),
        ("{'a b': {set: stages.make.count, values: [1]}}", "an axis is called by letters"),
        ("{a: [1]}", "matrix.a: [1] is given; must be a group of settings"),
        ("{a: {set: name}}", "matrix.a: an axis has either `set` and `values`, or `rows`"),
        ("{a: {set: stages.make.count, values: []}}", "matrix.a: has no value"),
        ("{a: {set: stages.mkae.count, values: [1]}}", 'no stage is called "mkae"; did you mean'),
        ("{a: {set: stages.make.kind, values: [1]}}", '"stages.make.kind" is no setting'),
        ("{a: {set: name, values: [1]}}", '"name" is no setting'),
        ("{a: {set: stages.make.count, values: [1, 0]}}", "stages.make.count: 0 is given; must be"),
        ("{a: {set: stages.make.cuont, values: [1]}}", 'no such setting; did you mean "count"?'),
        ("{a: {set: stages.make.count, values: [1, 1]}}", '"1" stands here twice'),
        ("{a: {set: stages.make.text, values: ['1/2', '1_2']}}", '"1_2" stands here twice'),
    ],
)
def test_what_is_wrong_is_named_where_it_is_written(desk, matrix, message):
    lines = desk.mistakes(f"name: toy\nmatrix: {matrix}\nstages:\n  make: {{text: a}}\n")
    assert len(lines) == 1
    assert lines[0].startswith("x.yaml:2: matrix")
    assert message in lines[0]


def test_too_many_members_are_refused_before_any_is_made(desk):
    axes = ", ".join(
        f"a{n}: {{set: stages.make.count, values: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}"
        for n in range(4)
    )
    (line,) = desk.mistakes(f"name: toy\nmatrix: {{{axes}}}\nstages:\n  make: {{text: a}}\n")
    assert "has 10,000 combinations; 1,000 at most" in line


def test_one_member_is_chosen_by_name_and_all_by_the_stage(desk):
    desk.write(SWEEP)
    output = desk.run("--stage", "make.count-2.text-plain")
    assert output.count("done in") == 1
    assert desk.run("--stage", "make").count("done in") == 3
    wrong = desk.command("run", "x.yaml", "--stage", "make.count-3.text-plain")
    assert wrong.returncode == 2
    assert "did you mean" in wrong.stderr
