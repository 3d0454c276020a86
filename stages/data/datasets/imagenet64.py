"""ImageNet downsampled to 64 x 64: colour pictures of a thousand classes."""

from stages.data.dataset import Dataset, PublishedFile

DATASET = Dataset(
    name="imagenet64",
    title="ImageNet 64x64",
    format="imagenet64",
    image_shape=(64, 64, 3),
    num_train_images=1_281_167,
    num_test_images=50_000,
    mean=(0.4815, 0.4578, 0.4082),
    std=0.2128,
    train_files=tuple(PublishedFile(f"train_data_batch_{n}.npz") for n in range(1, 11)),
    test_files=(PublishedFile("val_data.npz"),),
    by_hand="download the npz archives of downsampled 64x64 ImageNet from image-net.org "
    "(which asks for an account) and unpack train_data_batch_1.npz to "
    "_10.npz and val_data.npz into {dir}",
)
