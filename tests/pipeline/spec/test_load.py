"""Every mistake of a spec in one go, each with its line, what is wrong and what would be right."""

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.spec.load import load_spec, stage_kinds

MAKE = "name: toy\nstages:\n  make:\n    text: hello\n"


def test_every_mistake_is_named_in_one_go_sorted_by_line(desk):
    assert desk.mistakes(
        """name: ../toy
title: x
stages:
  make:
    text: word
    cuont: 3
    rate: fast
    eps_grid: [8, 1/10, 0.1]
    tool: {kind: pencil}
    text: again
  join:
    inputs: {data: mak}
  second:
    kind: maek
"""
    ) == [
        'x.yaml:1: name: "../toy": a folder is named so: use letters, digits and . _ -, beginning '
        "with a letter or digit",
        "x.yaml:2: title: no such setting; choose one of: matrix, name, resources, stages",
        'x.yaml:6: stages.make.cuont: no such setting; did you mean "count"?',
        'x.yaml:7: stages.make.rate: "fast" is given; must be a number',
        "x.yaml:8: stages.make.eps_grid.0: 8 is more than 1, the whole range of a pixel; did you "
        "mean 8/255?",
        "x.yaml:8: stages.make.eps_grid.2: 0.1 is rounded in binary; write an exact fraction such "
        "as 8/255 or 1/10 (here: 1/10)",
        'x.yaml:9: stages.make.tool.kind: "pencil": did you mean "pen"?',
        "x.yaml:10: stages.make.text: given twice, in line 5 and again in line 10; keep one",
        'x.yaml:12: stages.join.inputs.data: no stage is called "mak"; did you mean "make"?',
        'x.yaml:14: stages.second.kind: no kind of stage is called "maek"; did you mean "make"?',
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("count: three", 'count: "three" is given; must be a whole number'),
        ("count: 2.5", "count: 2.5 is given; must be a whole number"),
        ('count: "3"', 'count: "3" is given; must be a whole number'),
        ("count: true", "count: true is given; must be a whole number"),
        ("count:", "count: no value is given; must be a whole number"),
        ("count: 0", "count: 0 is given; must be more than 0"),
        ("count: 010", 'count: "010" is given; must be a whole number'),
        ("count: 1e999", "count: 1e999 is too large"),
        ("rate: .inf", "rate: Infinity is given; must be a finite number"),
        ("rate: [1]", "rate: [1] is given; must be a number"),
        ("loud: 1", "loud: 1 is given; must be true or false"),
        ("loud: off", 'loud: "off" is given; must be true or false'),
        ('loud: "on"', 'loud: "on" is given; must be true or false'),
        ("seed: {a: 1}", "seed: a group of settings is given; must be a whole number"),
        ("eps: 0.0314", "(here: 157/5000, or 8/255)"),
        ("eps: 1/0", "eps: '1/0' is no fraction of two whole numbers"),
        ("eps: -1/10", "eps: -1/10 is negative"),
        ("eps: true", "eps: True is no fraction"),
        ("eps_grid: 1/10", 'eps_grid: "1/10" is given; must be a list'),
        ("mode: carful", 'mode: "carful" is given; did you mean "careful"?'),
        ("mode: 7", "mode: 7 is given; choose one of: careful, fast"),
        ("amount: 1.5", "amount: 1.5 is given; must be a whole number or text"),
        ("table: {a: x}", 'table.a: "x" is given; must be a whole number'),
        ("paper: 7", "paper: 7 is given; must be a group of settings"),
        ("paper: {size: [20, 28]}", "paper: size [20, 28]: the first must not be the smaller one"),
        ("paper: {size: [20]}", "paper.size.1: is missing"),
        ("tool: {kind: pen}", "tool.width: is missing (Thickness of the line in pixels)"),
        ("tool: {width: 3}", "tool.kind: is missing; choose one of: brush, pen"),
        ("tool: {kind: pen, width: 12}", "tool.width: 12 is given; must be 9 or less"),
        ("tool: {kind: pen, width: 1, ink: blu}", 'tool.ink: "blu" is given; did you mean "blue"?'),
        (
            "tool: {kind: pen, width: 1, hairs: 2}",
            "tool.hairs: no such setting; choose one of: ink",
        ),
        ("width: 3", 'width: no such setting here; did you mean "tool.width"?'),
        ("Loud: true", 'Loud: no such setting; did you mean "loud"?'),
        ("paper: !!python/object:os.system x", 'paper: YAML tags ("!!python/object:os.system")'),
        ("paper: !!python/object/apply:os.system [echo]", "YAML tags"),
        ("paper: *p", "paper: references (*p) are not read; write the value out"),
        ("paper: {<<: {margin: 1}}", "paper: merge keys (<<) are not read"),
        ("? [a]\n    : b", "a setting's name must be a plain word"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(desk, line, message):
    mistakes = desk.mistakes(f"{MAKE}    {line}\n")
    assert len(mistakes) == 1
    assert mistakes[0].startswith("x.yaml:5: stages.make")
    assert message in mistakes[0]


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("", ["x.yaml:1: the file is empty; a spec has a `name:` and `stages:`"]),
        ("# a comment\n", ["x.yaml:1: the file is empty; a spec has a `name:` and `stages:`"]),
        ("\n- a\n", ["x.yaml:2: a list at the top; a spec is `name: ...` and `stages: ...`"]),
        ("word", ["x.yaml:1: a single value at the top; a spec is `name: ...` and `stages: ..."]),
        (b"name: x\nstages: \xff\n", ["x.yaml:2: this is not UTF-8 text; save the file as UTF-8"]),
        ("name: x".encode("utf-16"), ["x.yaml:1: this is not UTF-8 text; save the file as UTF-8"]),
        (
            "name: x\nstages:\n\tmake:\n\t\ttext: a\n",
            [
                "x.yaml:3: a tab at the start of the line; YAML is indented by spaces",
                "x.yaml:4: a tab at the start of the line; YAML is indented by spaces",
            ],
        ),
        ("name: a\n---\nname: b\n", ["x.yaml:2: a second document starts here (---)"]),
        ("name: a\x07b\n", ['x.yaml:1: the character "\\u0007" is not allowed in YAML']),
        ("a: [1,\nb: 2", ["x.yaml:2: this is no YAML: while parsing a flow sequence"]),
        ("a: b: c", ["x.yaml:1: this is no YAML: mapping values are not allowed here (column 5)"]),
        ('name: "\\UFFFFFFFF"', ["x.yaml:1: this is no YAML: a number out of range"]),
        ("a: " + "[" * 3000, ["x.yaml:1: nested more than 40 levels deep"]),
        (
            "!!python/object/apply:os.system [x]",
            ['x.yaml:1: YAML tags ("!!python/object/apply:os.system") are not read'],
        ),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_its_line(desk, text, mistakes):
    found = desk.mistakes(text)
    assert [line[: len(start)] for line, start in zip(found, mistakes, strict=True)] == mistakes


def test_missing_parts_are_named(desk):
    assert desk.mistakes("nam: x\n") == [
        "x.yaml:1: name: is missing (The folder of results has this name)",
        "x.yaml:1: stages: is missing (By name, the settings of each stage)",
        'x.yaml:1: nam: no such setting; did you mean "name"?',
    ]
    assert desk.mistakes("name: x\nstages:\n  make:\n  join:\n") == [
        "x.yaml:3: stages.make.text: is missing (What is written)",
        "x.yaml:4: stages.join.inputs.data: is missing",
    ]
    assert desk.mistakes("name: x\nstages:\n  make: 7\n") == [
        "x.yaml:3: stages.make: 7 is given; must be a group of settings (`name: value` lines)"
    ]


@pytest.mark.parametrize("name", [".", "..", "a/b", ".x", "-x", "x y", '""', "x\\ty", "7"])
def test_a_pipeline_name_that_is_no_folder_name_is_refused(desk, name):
    (mistake,) = desk.mistakes(f"name: {name}\nstages:\n  make: {{text: a}}\n")
    assert mistake.startswith("x.yaml:1: name: ")


@pytest.mark.parametrize("name", ["..", "a/b", ".x", "a.b", '"a b"'])
def test_a_stage_name_that_is_no_folder_name_is_refused(desk, name):
    (mistake,) = desk.mistakes(f"name: x\nstages:\n  {name}: {{kind: make, text: a}}\n")
    assert "a stage's name is letters, digits, _ and -" in mistake


def test_a_kind_that_is_no_stage_is_refused(desk):
    for kind in ("os", "toys", "make.config", "..", "7"):
        (mistake,) = desk.mistakes(f"name: x\nstages:\n  a: {{kind: {kind}}}\n")
        assert "no kind of stage is called" in mistake


def test_values_arrive_as_the_settings_say(desk):
    desk.write(
        f"{MAKE}    rate: 2e-5\n    eps: 8/255\n    eps_grid: [0, 1/10, '2/255']\n"
        "    tool: {kind: pen, width: 2, ink: blue}\n"
        "    source: data/x\n    paper: {size: [3, 2]}\n"
    )
    made = desk.load().stage("make").settings
    assert made.rate == 2e-5
    assert made.eps == Fraction(8, 255)
    assert made.eps_grid == (0, Fraction(1, 10), Fraction(2, 255))
    assert (made.tool.kind, made.tool.ink.value, made.paper.size) == ("pen", "blue", (3, 2))
    assert made.source == Path("data/x")


def test_stages_stand_in_running_order_and_are_found_by_name(desk):
    desk.write("name: t\nstages:\n  join: {inputs: {data: b}}\n  b: {kind: make, text: x}\n")
    spec = desk.load()
    assert [stage.name for stage in spec.stages] == ["b", "join"]
    assert spec.stage("b").kind == "make"
    with pytest.raises(UserError, match='no stage "jion"; did you mean "join"'):
        spec.stage("jion")


def test_a_kind_is_a_package_with_config_and_run(desk):
    assert stage_kinds("toys") == ["act", "gather", "join", "make"]
    assert {"data", "models"}.isdisjoint(stage_kinds("stages"))


def test_a_file_that_is_not_there_is_named_with_a_near_one(desk):
    desk.write(MAKE)
    with pytest.raises(UserError, match=r"there is no such file; did you mean x\.yaml"):
        load_spec(Path("y.yaml"), (), "toys")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_spec(Path(), (), "toys")
    with pytest.raises(UserError, match="null"):
        load_spec(Path("a\0b"), (), "toys")


WORDS = "name stages make join kind text inputs data tool eps pen 010 2e-5 off 8/255 12:30 1e999"
MARKS = "&a |*a|<<|!!int|[|]|{|}|, |'|- |#|---|...|?|~|-|.nan|=|@|`|%YAML 1.1"
MORE = [
    ": ",
    ":\n",
    "\n",
    "  ",
    "    ",
    '"',
    "|",
    "\t",
    "\\",
    "\\ud800",
    "\\xff",
    "é",
    "\x00",
    "😀",
]
YAML_BITS = st.sampled_from([*WORDS.split(), *MARKS.split("|"), *MORE, "9" * 30])


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.lists(YAML_BITS | st.text(max_size=5), max_size=30).map("".join))
def test_no_text_makes_the_reader_fail(desk, text):
    for content in (text, f"name: a\nstages:\n  make:\n    text: a\n    {text}"):
        desk.write(content.encode("utf-8", "surrogatepass"))
        try:
            desk.load()
        except UserError as error:
            assert "x.yaml:" in str(error)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=st.lists(YAML_BITS | st.text(max_size=5), max_size=10).map("".join))
def test_no_override_makes_the_reader_fail(desk, text):
    desk.write(MAKE)
    for override in (text, f"stages.make.{text}", f"stages.make.tool={text}"):
        try:
            desk.load(override)
        except UserError as error:
            assert "--set" in str(error)
