"""Random shifts and flips of a whole batch at once, on any device.

What happens to an image depends on (seed, epoch, the image's index) alone: not on the batch it
comes in, nor on the number of ranks.
"""

import torch
from torch import Tensor

from stages.data.config import AugmentSettings
from stages.data.counter_rng import Stream, draw_below


def augment(
    images: Tensor, indices: Tensor, seed: int, epoch: int, settings: AugmentSettings
) -> Tensor:
    """Shift and flip each image at random; the same draw for the same (seed, epoch, index).

    Args:
        images: uint8 (n, C, H, W).
        indices: int64 (n,), each image's position in its split, on the images' device.
        seed: of the run.
        epoch: from 0 up.
        settings: how far to shift, what fills the bare pixels, whether to flip.

    Returns:
        uint8 (n, C, H, W).
    """
    _, _, height, width = images.shape
    down, right, is_flipped = _draw_moves(indices, seed, epoch, settings)
    rows = torch.arange(height, device=images.device) + down[:, None]
    columns = torch.arange(width, device=images.device).expand(len(images), width)
    columns = torch.where(is_flipped[:, None], width - 1 - columns, columns) + right[:, None]
    moved = _gather_pixels(images, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    if settings.pad_mode == "zero" and settings.crop_padding:
        is_bare_row = (rows < 0) | (rows >= height)
        is_bare_column = (columns < 0) | (columns >= width)
        moved.masked_fill_((is_bare_row[:, :, None] | is_bare_column[:, None, :])[:, None], 0)
    return moved


def _draw_moves(
    indices: Tensor, seed: int, epoch: int, settings: AugmentSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each image how far its crop lies down and right, and whether it is mirrored."""
    num_shifts = 2 * settings.crop_padding + 1
    drawn = draw_below(indices, 2 * num_shifts * num_shifts, Stream.AUGMENT, seed, epoch)
    down = drawn % num_shifts - settings.crop_padding
    right = drawn // num_shifts % num_shifts - settings.crop_padding
    is_flipped = (drawn // (num_shifts * num_shifts) == 1) & settings.flip
    return down, right, is_flipped


def _gather_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[n, :, rows[n, i], columns[n, j]]: rows (n, H), columns (n, W)."""
    num_images, channels, height, width = images.shape
    # One gather over flat pixels: 1.3 ms for 512 x 28 x 28, a third of advanced indexing's time.
    pixels = (rows[:, :, None] * width + columns[:, None, :]).reshape(num_images, 1, -1)
    flat = images.reshape(num_images, channels, height * width)
    return flat.gather(2, pixels.expand(-1, channels, -1)).view_as(images)
