"""Any tree of pictures: train/<class>/<picture> and test/<class>/<picture>."""

from stages.data.dataset import Dataset

DATASET = Dataset(name="folder", title="Folder of classes", format="folder")
