"""The datasets that the shard stage knows: shapes, classes, normalisation, published files."""

from dataclasses import dataclass
from typing import Literal

Layout = Literal["idx", "cifar10", "cifar100", "tinyimagenet", "imagenet64", "folder"]


@dataclass(frozen=True)
class PublishedFile:
    """One file of a dataset as its publisher released it."""

    name: str
    """Path inside the source folder, without `.gz`."""
    digest: str
    """`sha256:...` or `md5:...` of the content, uncompressed: repacking a `.gz` changes nothing."""


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset before its files are opened; None is read from the files."""

    name: str
    title: str
    layout: Layout
    image_shape: tuple[int, int, int] | None
    """Height, width, channels."""
    classes: tuple[str, ...] | None
    num_train_images: int | None
    num_test_images: int | None
    mean: tuple[float, ...] | None
    """Channel means of the training images, pixels in [0, 1]."""
    std: float | None
    """The one standard deviation that divides all channels."""
    files: tuple[PublishedFile, ...] = ()
    """The files whose checksums are published; the others are checked by format and count."""


_MNIST_FILES = (
    PublishedFile(
        "train-images-idx3-ubyte",
        "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    PublishedFile(
        "train-labels-idx1-ubyte",
        "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    PublishedFile(
        "t10k-images-idx3-ubyte",
        "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    PublishedFile(
        "t10k-labels-idx1-ubyte",
        "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

_FASHION_MNIST_FILES = (
    PublishedFile(
        "train-images-idx3-ubyte",
        "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    PublishedFile(
        "train-labels-idx1-ubyte",
        "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    PublishedFile(
        "t10k-images-idx3-ubyte",
        "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    PublishedFile(
        "t10k-labels-idx1-ubyte",
        "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

_CIFAR10_FILES = (
    PublishedFile("data_batch_1", "md5:c99cafc152244af753f735de768cd75f"),
    PublishedFile("data_batch_2", "md5:d4bba439e000b95fd0a9bffe97cbabec"),
    PublishedFile("data_batch_3", "md5:54ebc095f3ab1f0389bbae665268c751"),
    PublishedFile("data_batch_4", "md5:634d18415352ddfa80567beed471001a"),
    PublishedFile("data_batch_5", "md5:482c414d41f54cd18b22e5b47cb7c3cb"),
    PublishedFile("test_batch", "md5:40351d587109b95175f43aff81a1287e"),
)

_CIFAR100_FILES = (
    PublishedFile("train", "md5:16019d7e3df5f24257cddd939b257f8d"),
    PublishedFile("test", "md5:f0ef6b0ae62326f3e7ffdfab6717acfc"),
)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CIFAR10_CLASSES = _names("airplane automobile bird cat deer dog frog horse ship truck")

_CIFAR100_CLASSES = _names(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)

_FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

# Mean and std are those of the published l_inf-distance nets, so that radii and weights compare;
# CIFAR-100 has none there: the customary channel means, and the average of the channels' stds.
_DATASETS = (
    Dataset(
        name="fashion_mnist",
        title="Fashion-MNIST",
        layout="idx",
        image_shape=(28, 28, 1),
        classes=_FASHION_MNIST_CLASSES,
        num_train_images=60_000,
        num_test_images=10_000,
        mean=(0.2860,),
        std=0.3520,
        files=_FASHION_MNIST_FILES,
    ),
    Dataset(
        name="mnist",
        title="MNIST",
        layout="idx",
        image_shape=(28, 28, 1),
        classes=tuple("0123456789"),
        num_train_images=60_000,
        num_test_images=10_000,
        mean=(0.1307,),
        std=0.3081,
        files=_MNIST_FILES,
    ),
    Dataset(
        name="cifar10",
        title="CIFAR-10",
        layout="cifar10",
        image_shape=(32, 32, 3),
        classes=_CIFAR10_CLASSES,
        num_train_images=50_000,
        num_test_images=10_000,
        mean=(0.4914, 0.4822, 0.4465),
        std=0.2009,
        files=_CIFAR10_FILES,
    ),
    Dataset(
        name="cifar100",
        title="CIFAR-100",
        layout="cifar100",
        image_shape=(32, 32, 3),
        classes=_CIFAR100_CLASSES,
        num_train_images=50_000,
        num_test_images=10_000,
        mean=(0.5071, 0.4865, 0.4409),
        std=0.2666,
        files=_CIFAR100_FILES,
    ),
    Dataset(
        name="tinyimagenet",
        title="TinyImageNet",
        layout="tinyimagenet",
        image_shape=(64, 64, 3),
        classes=None,
        num_train_images=100_000,
        num_test_images=10_000,
        mean=(0.4802, 0.4481, 0.3975),
        std=0.2276,
    ),
    Dataset(
        name="imagenet64",
        title="ImageNet 64x64",
        layout="imagenet64",
        image_shape=(64, 64, 3),
        classes=None,
        num_train_images=1_281_167,
        num_test_images=50_000,
        mean=(0.4815, 0.4578, 0.4082),
        std=0.2128,
    ),
    Dataset(
        name="folder",
        title="Folder of classes",
        layout="folder",
        image_shape=None,
        classes=None,
        num_train_images=None,
        num_test_images=None,
        mean=None,
        std=None,
    ),
)

CATALOGUE = {dataset.name: dataset for dataset in _DATASETS}
"""Dataset by the name that a pipeline file uses."""
