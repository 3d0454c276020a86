"""`--set PATH=VALUE`: the rules of the file, and messages that name the override."""

import pytest

SPEC = """name: toy
stages:
  make:
    text: hello
    count: wrong
    eps_grid: [1/10, 2/10]
"""
RIGHT = SPEC.replace("wrong", "2")


def test_an_override_replaces_a_value_and_forgives_the_one_in_the_file(desk):
    desk.write(SPEC)
    made = desk.load("stages.make.count=3", "stages.make.rate=2e-5").stage("make").settings
    assert (made.count, made.rate) == (3, 2e-5)


def test_an_override_reaches_into_groups_and_lists_and_replaces_whole_ones(desk):
    desk.write(RIGHT)
    made = (
        desk.load(
            "stages.make.eps_grid.1=3/10",
            "stages.make.paper.margin=1",
            "stages.make.tool={kind: brush, hairs: 3}",
        )
        .stage("make")
        .settings
    )
    assert [str(eps) for eps in made.eps_grid] == ["1/10", "3/10"]
    assert made.paper.margin == 1
    assert made.tool.hairs == 3


def test_a_later_override_wins(desk):
    desk.write(RIGHT)
    assert desk.load("name=a", "name=b").name == "b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.mkae.count=3", 'stages.mkae: no stage has this name; did you mean "make"?'),
        ("stages.make.cuont=3", 'stages.make.cuont: no such setting; did you mean "count"?'),
        ("stage.make.count=3", 'stage: no such setting; did you mean "stages"?'),
        ("stages.make.count=x", 'stages.make.count: "x" is given; must be a whole number'),
        ("stages.make.count=010", 'stages.make.count: "010" is given; must be a whole number'),
        ("stages.make.count=", "stages.make.count: no value is given; must be a whole number"),
        ("stages.make.count", "write it as PATH=VALUE, e.g. stages.train.epochs=3"),
        ("=3", "write it as PATH=VALUE"),
        ("stages..count=3", "write it as PATH=VALUE"),
        ("stages.make.count=[", "this is no YAML"),
        ("stages.make.count=*a", "references (*a) are not read"),
        ("stages.make.eps_grid.2=0", "the list stages.make.eps_grid has positions 0 to 1"),
        ("stages.make.eps_grid.x=0", "the list stages.make.eps_grid has positions 0 to 1"),
        ("stages.make.text.size=0", 'stages.make.text is "hello", not a group of settings'),
        ("stages.make.eps_grid.0=0.1", "0.1 is rounded in binary"),
    ],
)
def test_a_wrong_override_is_named(desk, override, message):
    (mistake,) = desk.mistakes(RIGHT, override)
    assert mistake.startswith(f"--set {override}: ")
    assert message in mistake


def test_overrides_are_reported_behind_the_file_in_the_order_given(desk):
    mistakes = desk.mistakes(SPEC, "stages.make.zzz=1", "stages.make.aaa=1")
    assert [mistake.split(": ")[0] for mistake in mistakes] == [
        "x.yaml:5",
        "--set stages.make.zzz=1",
        "--set stages.make.aaa=1",
    ]
