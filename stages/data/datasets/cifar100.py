"""CIFAR-100: colour pictures of a hundred kinds of things, 32 x 32.

No l_inf-distance network is published for it: the mean is the customary one, and the std the
average of the channels' stds.
"""

from stages.data.dataset import Dataset, PublishedFile

_CLASSES = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

DATASET = Dataset(
    name="cifar100",
    title="CIFAR-100",
    format="cifar",
    image_shape=(32, 32, 3),
    classes=tuple(_CLASSES.split()),
    num_train_images=50_000,
    num_test_images=10_000,
    mean=(0.5071, 0.4865, 0.4409),
    std=0.2666,
    train_files=(PublishedFile("train", "md5:16019d7e3df5f24257cddd939b257f8d"),),
    test_files=(PublishedFile("test", "md5:f0ef6b0ae62326f3e7ffdfab6717acfc"),),
    torchvision_class="CIFAR100",
)
