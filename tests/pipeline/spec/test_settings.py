from typing import Annotated

from pipeline.spec.settings import Inputs, Kinds


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
