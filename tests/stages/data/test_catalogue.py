import subprocess
import sys
from typing import get_args

import pytest

from stages.data.catalogue import CATALOGUE, Dataset, Layout

PUBLISHED = [dataset for dataset in CATALOGUE.values() if dataset.name != "folder"]


def test_every_layout_has_a_dataset() -> None:
    assert {dataset.layout for dataset in CATALOGUE.values()} == set(get_args(Layout))


@pytest.mark.parametrize("dataset", PUBLISHED, ids=lambda dataset: dataset.name)
def test_a_published_dataset_has_one_mean_a_channel(dataset: Dataset) -> None:
    assert dataset.mean is not None and dataset.std is not None
    assert dataset.image_shape is not None
    assert len(dataset.mean) == dataset.image_shape[2]
    assert all(0 < mean < 1 for mean in dataset.mean)
    assert 0 < dataset.std < 0.5


@pytest.mark.parametrize(
    ("name", "num_classes"), [("cifar10", 10), ("cifar100", 100), ("mnist", 10)]
)
def test_class_names_are_distinct(name: str, num_classes: int) -> None:
    classes = CATALOGUE[name].classes
    assert classes is not None
    assert len(set(classes)) == len(classes) == num_classes


def test_fashion_mnist_has_the_mean_of_the_published_networks() -> None:
    assert (CATALOGUE["fashion_mnist"].mean, CATALOGUE["fashion_mnist"].std) == ((0.2860,), 0.3520)


def test_the_catalogue_needs_neither_torch_nor_numpy() -> None:
    program = (
        "import sys, stages.data.catalogue, stages.data.config, stages.shard.config\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
