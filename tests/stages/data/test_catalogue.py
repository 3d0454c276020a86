import subprocess
import sys
from importlib.util import find_spec

import pytest

from stages.data.catalogue import CATALOGUE
from stages.data.dataset import Dataset

PUBLISHED = [dataset for dataset in CATALOGUE.values() if dataset.name != "folder"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_dataset_has_the_name_of_its_module_and_a_format_with_a_reader(name: str) -> None:
    assert CATALOGUE[name].name == name
    assert find_spec(f"stages.shard.formats.{CATALOGUE[name].format}")


@pytest.mark.parametrize("dataset", CATALOGUE.values(), ids=lambda dataset: dataset.name)
def test_what_can_be_fetched_can_be_verified(dataset: Dataset) -> None:
    if dataset.is_fetchable:
        assert dataset.files and all(file.digest for file in dataset.files)


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
