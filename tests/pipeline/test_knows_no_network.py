"""The pipeline runs whatever the stages are: it has no word of what they compute."""

import re
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[2] / "pipeline"
WORDS = re.compile(
    r"distance|cent(?:er|r)ing|l_?inf\b|lipschitz|\bnorms?\b|logit|margin|neuron|pixel"
    r"|hidden.layer|integer.network",
    re.IGNORECASE,
)


@pytest.mark.parametrize(
    "path", sorted(PIPELINE.rglob("*.py")), ids=lambda path: str(path.relative_to(PIPELINE))
)
def test_no_word_of_networks_stands_in_the_pipeline(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if WORDS.search(line)] == []
