import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stages.data.augment import augment
from stages.data.config import AugmentSettings
from stages.data.counter_rng import Stream, draw_below

PICTURE = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)


def one_by_one(
    images: Tensor, indices: Tensor, seed: int, epoch: int, settings: AugmentSettings
) -> Tensor:
    """The same moves with numpy's own padding, image by image."""
    padding = settings.crop_padding
    num_shifts = 2 * padding + 1
    mode = "edge" if settings.pad_mode == "edge" else "constant"
    moved = []
    for image, index in zip(images.numpy(), indices.numpy(), strict=True):
        number = np.array([index])
        drawn = int(draw_below(number, 2 * num_shifts**2, Stream.AUGMENT, seed, epoch)[0])
        top, left = drawn % num_shifts, drawn // num_shifts % num_shifts
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode)
        cropped = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
        is_flipped = settings.flip and drawn // num_shifts**2 == 1
        moved.append(cropped[:, :, ::-1] if is_flipped else cropped)
    return torch.from_numpy(np.stack(moved))


@given(
    st.integers(0, 5),
    st.sampled_from(["edge", "zero"]),
    st.booleans(),
    st.integers(0, 2**32),
    st.integers(0, 5),
)
def test_a_batch_moves_as_its_images_do_one_by_one(
    padding: int, pad_mode: str, flip: bool, seed: int, epoch: int
) -> None:
    settings = AugmentSettings(crop_padding=padding, pad_mode=pad_mode, flip=flip)  # type: ignore[arg-type]
    images = torch.randint(0, 256, (9, 2, 5, 4), dtype=torch.uint8)
    indices = torch.randint(0, 10_000, (9,))
    expected = one_by_one(images, indices, seed, epoch, settings)
    assert torch.equal(augment(images, indices, seed, epoch, settings), expected)


def test_without_settings_images_stay_as_they_are() -> None:
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(augment(images, torch.arange(5), 0, 0, AugmentSettings()), images)


@pytest.mark.parametrize(
    ("pad_mode", "corner"),
    [
        ("edge", [[1, 1, 2, 3], [1, 1, 2, 3], [5, 5, 6, 7]]),
        ("zero", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7]]),
    ],
)
def test_a_shift_down_and_right_by_hand(pad_mode: str, corner: list[list[int]]) -> None:
    settings = AugmentSettings(crop_padding=1, pad_mode=pad_mode)  # type: ignore[arg-type]
    many = augment(PICTURE.expand(200, 1, 3, 4), torch.arange(200), 0, 0, settings)
    shifted = {str(image[0].tolist()) for image in many}
    assert str(corner) in shifted
    assert len(shifted) == 9


def test_a_flip_mirrors_left_and_right_half_of_the_time() -> None:
    num = 10_000
    many = augment(
        PICTURE.expand(num, 1, 3, 4), torch.arange(num), 1, 2, AugmentSettings(flip=True)
    )
    is_mirrored = (many == PICTURE.flip(3)).all(dim=(1, 2, 3))
    assert (is_mirrored | (many == PICTURE).all(dim=(1, 2, 3))).all()
    assert abs(int(is_mirrored.sum()) - num / 2) < 4 * (num / 4) ** 0.5


def test_an_image_moves_alike_in_any_batch_and_order() -> None:
    settings = AugmentSettings(crop_padding=3, flip=True)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    indices = torch.randperm(1000)[:40]
    together = augment(images, indices, 9, 4, settings)
    some = torch.tensor([31, 7, 7, 20])
    assert torch.equal(augment(images[some], indices[some], 9, 4, settings), together[some])


def test_the_moves_differ_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    settings = AugmentSettings(crop_padding=3)
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    first = augment(images, torch.arange(40), 0, 0, settings)
    assert not torch.equal(augment(images, torch.arange(40), 0, 1, settings), first)
    assert not torch.equal(augment(images, torch.arange(40), 1, 0, settings), first)
