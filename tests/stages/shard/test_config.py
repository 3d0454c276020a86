from pathlib import Path

import pytest
from pydantic import ValidationError

from stages.shard.config import Settings


def test_the_source_lies_in_data_unless_said_otherwise() -> None:
    assert Settings(dataset="mnist").source_dir == Path("data/mnist")
    assert Settings(dataset="mnist", source=Path("/x")).source_dir == Path("/x")


def test_an_unknown_dataset_is_refused_with_a_guess() -> None:
    with pytest.raises(ValidationError, match="did you mean 'fashion_mnist'"):
        Settings(dataset="fasion_mnist")


def test_a_folder_needs_a_source() -> None:
    with pytest.raises(ValidationError, match="dataset `folder` needs `source`"):
        Settings(dataset="folder")


@pytest.mark.parametrize("setting", ["images_per_block", "shard_bytes", "num_workers"])
def test_counts_start_at_one(setting: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Settings.model_validate({"dataset": "mnist", setting: 0})
