"""What a spec asks a cluster for, as flags of sbatch."""

import pytest

from pipeline.spec.resources import PipelineResources

SPEC = "name: toy\nresources: {%s}\nstages:\n  make: {text: a}\n"


def test_a_stage_asks_for_what_all_do_unless_it_says_otherwise(desk):
    desk.write(SPEC % "time: '30', extra: [--qos=long], stages: {make: {nodes: 2, time: 1:00:00}}")
    resources = desk.load().resources
    assert list(resources.of("make").flags()) == [
        "--nodes=2",
        "--ntasks-per-node=1",
        "--time=1:00:00",
        "--qos=long",
    ]
    assert list(resources.of("other").flags())[2] == "--time=30"


def test_there_is_a_rank_a_gpu_and_no_more_nodes_than_ranks_can_use():
    wide = PipelineResources(nodes=2, gpus_per_node=4, cpus=8, memory="64G", constraint="a&b")
    assert list(wide.of("train").flags()) == [
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--cpus-per-task=8",
        "--mem=64G",
        "--constraint=a&b",
    ]
    alone = list(wide.of("report").limited_to(1).flags())
    assert alone[:2] == ["--nodes=1", "--ntasks-per-node=1"]
    assert not any("gpus" in flag for flag in alone)
    assert wide.of("x").limited_to(8) == wide.of("x")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("time: 30", "must be text"),
        ("time: soon", 'resources.time: "soon": write minutes'),
        ("memory: 64", "must be text"),
        ("memory: 64GB", "write a whole number and K, M, G or T: 64G"),
        ("nodes: 0", "must be 1 or more"),
        ("extra: [-p gpu]", "'-p gpu' is no long flag of sbatch"),
        ("extra: [--array=1-9]", "--array is set by `submit` itself"),
        ("extra: [--wrap=rm]", "--wrap is set by `submit` itself"),
        ('partition: "a\\nb"', "holds a character that cannot be printed"),
        ("gpu: 3", "no such setting"),
        ("stages: {maek: {}}", 'did you mean "make"?'),
    ],
)
def test_what_no_cluster_could_give_is_named(desk, given, message):
    (line,) = desk.mistakes(SPEC % given)
    assert line.startswith("x.yaml:2: resources")
    assert message in line


def test_resources_do_not_make_a_stage_stale(desk):
    desk.write(SPEC % "nodes: 1")
    desk.run()
    assert desk.plan("resources.nodes=4") == {"make": "up to date"}
