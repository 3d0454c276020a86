"""MNIST: handwritten digits, grey, 28 x 28."""

from stages.data.dataset import Dataset, PublishedFile

DATASET = Dataset(
    name="mnist",
    title="MNIST",
    format="idx",
    image_shape=(28, 28, 1),
    classes=tuple("0123456789"),
    num_train_images=60_000,
    num_test_images=10_000,
    mean=(0.1307,),
    std=0.3081,
    train_files=(
        PublishedFile(
            "train-images-idx3-ubyte",
            "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        PublishedFile(
            "train-labels-idx1-ubyte",
            "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    test_files=(
        PublishedFile(
            "t10k-images-idx3-ubyte",
            "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte",
            "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    torchvision_class="MNIST",
)
