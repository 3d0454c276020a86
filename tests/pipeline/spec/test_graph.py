from pipeline.spec.graph import running_order

THREE = """name: t
stages:
  a: {kind: join, inputs: {data: make, more: %s}}
  b: {kind: join, inputs: {data: make, more: %s}}
  c: {kind: join, inputs: {data: make, more: %s}}
  make: {text: x}
"""


def test_stages_run_behind_their_inputs_and_else_as_written():
    wiring = {"d": {"x": "b", "y": "c"}, "c": {"x": "a"}, "b": {"x": "a"}, "a": {}, "e": {}}
    assert running_order(wiring) == ["a", "c", "b", "d", "e"]


def test_a_circle_is_named_once_with_all_its_stages(desk):
    (mistake,) = desk.mistakes(THREE % ("b", "c", "a"))
    assert mistake == (
        "x.yaml:3: stages.a.inputs.more: the stages wait for each other: a -> b -> c -> a; "
        "cut one of these inputs"
    )


def test_a_stage_that_reads_itself_is_named(desk):
    (mistake,) = desk.mistakes(THREE % ("a", "a", "a"))
    assert "stages.a.inputs.more: the stages wait for each other: a -> a;" in mistake


def test_two_circles_are_both_named(desk):
    first, second = desk.mistakes(THREE % ("b", "a", "c"))
    assert "a -> b -> a" in first
    assert "c -> c" in second


def test_an_input_that_names_no_stage_is_named_even_beside_other_mistakes(desk):
    mistakes = desk.mistakes("name: t\nstages:\n  join: {inputs: {data: mak}, separator: 3}\n")
    assert mistakes == [
        'x.yaml:3: stages.join.inputs.data: no stage is called "mak"; the spec has no other stage',
        "x.yaml:3: stages.join.separator: 3 is given; must be text",
    ]


def test_an_input_of_an_unfit_kind_is_named_with_one_that_fits(desk):
    text = THREE.replace("{data: make, more: %s}", "{data: make}", 2) % "make"
    (mistake,) = desk.mistakes(
        text.replace("make: {text: x}", "make: {text: x}\n  d: {kind: act, what: x}")
    )
    assert mistake == (
        'x.yaml:5: stages.c.inputs.more: "make" is a stage of kind make, but a stage of kind join '
        "or act is needed; choose one of: a, b, d"
    )


def test_an_input_of_the_wrong_type_is_named(desk):
    (mistake,) = desk.mistakes("name: t\nstages:\n  join: {inputs: {data: 3}}\n")
    assert mistake == "x.yaml:3: stages.join.inputs.data: 3 is given; must be text"


def test_a_list_of_inputs_is_checked_entry_by_entry(desk):
    gather = "  gather:\n    inputs: {pages: make, one: make, others:\n      [make,\n      %s]}\n"
    stages = "name: t\nstages:\n  make: {text: a}\n  join: {inputs: {data: make}}\n"
    for entry, message in (
        ("mka", 'no stage is called "mka"'),
        ("join", '"join" is a stage of kind join'),
    ):
        (mistake,) = desk.mistakes(stages + gather % entry)
        assert mistake.startswith(f"x.yaml:8: stages.gather.inputs.others.1: {message}")
