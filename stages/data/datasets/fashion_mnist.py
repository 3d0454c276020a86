"""Fashion-MNIST: grey pictures of clothes, 28 x 28."""

from stages.data.dataset import Dataset, PublishedFile

DATASET = Dataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    format="idx",
    image_shape=(28, 28, 1),
    classes=(
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
    ),
    num_train_images=60_000,
    num_test_images=10_000,
    mean=(0.2860,),
    std=0.3520,
    train_files=(
        PublishedFile(
            "train-images-idx3-ubyte",
            "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        PublishedFile(
            "train-labels-idx1-ubyte",
            "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
    ),
    test_files=(
        PublishedFile(
            "t10k-images-idx3-ubyte",
            "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        PublishedFile(
            "t10k-labels-idx1-ubyte",
            "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    debian_package="dataset-fashion-mnist",
    torchvision_class="FashionMNIST",
)
