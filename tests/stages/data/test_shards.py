import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.errors import StageError
from stages.data.manifest import Manifest, Shard
from stages.data.shards import Sample, read_samples, read_shard, write_block_shard

WriteArtifact = Callable[..., tuple[Path, Manifest]]
# webdataset leaves closing the tar files to the garbage collector
unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SHAPES = [(4, 5, 1), (3, 4, 3)]


def all_images(data_dir: Path, manifest: Manifest, split: str) -> tuple[np.ndarray, np.ndarray]:
    samples = [
        sample
        for shard in manifest.split(split).shards
        for sample in read_samples(read_shard(data_dir, shard), shard, manifest.image_shape)
    ]
    images = np.concatenate([sample.images for sample in samples])
    return images, np.concatenate([sample.labels for sample in samples])


@pytest.mark.parametrize("image_shape", SHAPES)
def test_blocks_and_pictures_hold_the_same_images(
    write_artifact: WriteArtifact, image_shape: tuple[int, int, int]
) -> None:
    data_dir, blocks = write_artifact({"train": 21}, image_shape)
    images, labels = all_images(data_dir, blocks, "train")
    data_dir, pictures = write_artifact({"train": 21}, image_shape, 1, 5)
    same_images, same_labels = all_images(data_dir, pictures, "train")
    assert images.shape == (21, *image_shape)
    assert (images == same_images).all()
    assert (labels == same_labels).all()


@unclosed
def test_webdataset_decodes_blocks_without_our_code(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 21}, (3, 4, 3))
    urls = [str(data_dir / shard.name) for shard in manifest.split("train").shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
    images, labels = all_images(data_dir, manifest, "train")
    assert [sample["__key__"] for sample in samples] == [
        "train-000000",
        "train-000008",
        "train-000016",
    ]
    assert (np.concatenate([sample["images.npy"] for sample in samples]) == images).all()
    assert (np.concatenate([sample["labels.npy"] for sample in samples]) == labels).all()


@unclosed
@pytest.mark.parametrize(("image_shape", "kind"), [((4, 5, 1), "l8"), ((3, 4, 3), "rgb8")])
def test_webdataset_decodes_pictures_without_our_code(
    write_artifact: WriteArtifact, image_shape: tuple[int, int, int], kind: str
) -> None:
    data_dir, manifest = write_artifact({"test": 7}, image_shape, 1, 100)
    url = str(data_dir / "test-000000.tar")
    samples = list(webdataset.WebDataset(url, shardshuffle=False).decode(kind))
    images, labels = all_images(data_dir, manifest, "test")
    assert [sample["__key__"] for sample in samples] == [f"test-00000{i}" for i in range(7)]
    assert [sample["cls"] for sample in samples] == labels.tolist()
    assert (np.stack([sample["png"] for sample in samples]).reshape(images.shape) == images).all()


def test_a_tar_says_nothing_of_when_and_by_whom_it_was_written(
    write_artifact: WriteArtifact,
) -> None:
    data_dir, _ = write_artifact({"train": 5})
    with tarfile.open(data_dir / "train-000000.tar") as tar:
        for member in tar:
            owner = (member.uid, member.gid, member.uname, member.gname)
            assert (member.mtime, owner, member.mode) == (0, (0, 0, "", ""), 0o644)
    header = (data_dir / "train-000000.tar").read_bytes()[257:265]
    assert header == b"ustar\x0000"


def test_the_same_images_give_the_same_bytes(write_artifact: WriteArtifact) -> None:
    _, first = write_artifact({"train": 21})
    _, second = write_artifact({"train": 21})
    assert first == second


def test_the_offsets_lead_to_the_pixels_and_labels(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 21})
    images, labels = all_images(data_dir, manifest, "train")
    shard = manifest.split("train").shards[1]
    block = shard.blocks[0]
    mapped = np.memmap(data_dir / shard.name, np.uint8, "r")
    pixels = mapped[block.images_offset :][: images[16:].size].reshape(5, 4, 5, 1)
    assert (pixels == images[16:21]).all()
    numbers = mapped[block.labels_offset :][: 5 * 8].view("<i8")
    assert numbers.tolist() == labels[16:21].tolist()


@pytest.mark.parametrize("where", [0, 100, 512, 700, -1])
def test_a_flipped_byte_anywhere_is_named(
    write_artifact: WriteArtifact, flip_byte: Callable[[Path, int], None], where: int
) -> None:
    data_dir, manifest = write_artifact({"train": 21})
    flip_byte(data_dir / "train-000001.tar", where)
    with pytest.raises(StageError, match=r"train-000001\.tar is damaged: its sha256 .* --force"):
        read_shard(data_dir, manifest.split("train").shards[1])


@pytest.mark.parametrize("change", [-512, 512])
def test_a_cut_or_lengthened_shard_is_named(write_artifact: WriteArtifact, change: int) -> None:
    data_dir, manifest = write_artifact({"train": 21})
    path = data_dir / "train-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(StageError, match=r"is damaged: it has .* bytes, the manifest says"):
        read_shard(data_dir, manifest.split("train").shards[0])


def test_a_missing_shard_is_named(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"train": 21})
    (data_dir / "train-000000.tar").unlink()
    with pytest.raises(StageError, match=r"train-000000\.tar cannot be read \(No such file"):
        read_shard(data_dir, manifest.split("train").shards[0])


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def samples() -> Iterator[Sample]:
        yield Sample("train-000000", np.zeros((2, 3, 3, 1), np.uint8), np.zeros(2, np.int64))
        raise StageError("the second block cannot be read")

    with pytest.raises(StageError, match="second block"):
        write_block_shard(tmp_path / "train-000000.tar", samples())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_shard_with_a_wrong_count_is_refused(write_artifact: WriteArtifact) -> None:
    data_dir, manifest = write_artifact({"test": 7}, (4, 5, 1), 1, 100)
    shard = manifest.split("test").shards[0]
    content = read_shard(data_dir, shard)
    wrong = Shard(**{**shard.model_dump(), "num_images": 8})
    with pytest.raises(StageError, match="holds 7 pictures, the manifest says 8"):
        list(read_samples(content, wrong, manifest.image_shape))
