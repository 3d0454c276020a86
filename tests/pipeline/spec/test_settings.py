from typing import Annotated

from pipeline.spec.settings import Inputs, Kinds, flat_inputs, nested_inputs


def test_an_input_declares_the_kinds_that_fit() -> None:
    class Some(Inputs):
        one: Annotated[str, Kinds("shard")]
        two: Annotated[str, Kinds("train", "prune")] | None = None
        three: Annotated[str | None, Kinds("certify")] = None
        four: str

    fit = {name: Some.kinds_that_fit(name) for name in Some.model_fields}
    assert fit == {
        "one": ("shard",),
        "two": ("train", "prune"),
        "three": ("certify",),
        "four": None,
    }


def test_the_entries_of_a_list_of_inputs_are_numbered_and_put_together_again() -> None:
    given = {"data": "shard", "records": [f"certify{number}" for number in range(1, 12)]}
    flat = flat_inputs(given.items())
    assert (flat["data"], flat["records-1"], flat["records-11"]) == (
        "shard",
        "certify1",
        "certify11",
    )
    assert nested_inputs(dict(sorted(flat.items()))) == given
