"""TinyImageNet: colour pictures of 200 classes of ImageNet, 64 x 64."""

from stages.data.dataset import Dataset

DATASET = Dataset(
    name="tinyimagenet",
    title="TinyImageNet",
    format="tinyimagenet",
    image_shape=(64, 64, 3),
    num_train_images=100_000,
    num_test_images=10_000,
    mean=(0.4802, 0.4481, 0.3975),
    std=0.2276,
    by_hand="download tiny-imagenet-200.zip from Stanford's CS231n course and unpack it, "
    "so that wnids.txt, words.txt, train/ and val/ lie in {dir}",
)
