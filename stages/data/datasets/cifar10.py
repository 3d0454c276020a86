"""CIFAR-10: colour pictures of ten kinds of things, 32 x 32."""

from stages.data.dataset import Dataset, PublishedFile

DATASET = Dataset(
    name="cifar10",
    title="CIFAR-10",
    format="cifar",
    image_shape=(32, 32, 3),
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    num_train_images=50_000,
    num_test_images=10_000,
    mean=(0.4914, 0.4822, 0.4465),
    std=0.2009,
    train_files=(
        PublishedFile("data_batch_1", "md5:c99cafc152244af753f735de768cd75f"),
        PublishedFile("data_batch_2", "md5:d4bba439e000b95fd0a9bffe97cbabec"),
        PublishedFile("data_batch_3", "md5:54ebc095f3ab1f0389bbae665268c751"),
        PublishedFile("data_batch_4", "md5:634d18415352ddfa80567beed471001a"),
        PublishedFile("data_batch_5", "md5:482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test_files=(PublishedFile("test_batch", "md5:40351d587109b95175f43aff81a1287e"),),
    torchvision_class="CIFAR10",
)
