"""Runs an exported network and certifies pictures with NumPy alone. Copy this file and use it.

    network = NumpyNetwork("network.npz")
    names, radii = network.certify(images)      # images: uint8 (B, C, H, W)

    python numpy_network.py network.npz images.npy

The network is made of whole numbers, so the answer is the same on every machine. A pixel value v
enters as 2^F v; a neuron is max(floor, max over its edges of |input - value|) - offset, and the
class is the output that is nearest. Every output moves by at most as much as the pixel that moves
most, so the class is proved for every change of each pixel (0 is black, 1 is white) below half the
lead of the nearest output over the next one.
"""

import sys
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Layer = tuple[NDArray[np.int64], ...]


class NumpyNetwork:
    """An exported network: `classes`, `image_shape` (C, H, W) and the layers."""

    def __init__(self, path: str) -> None:
        names = ("values", "columns", "starts", "floor", "offset")
        with np.load(path, allow_pickle=False) as file:
            self.fraction_bits = int(file["fraction_bits"])
            self.image_shape = tuple(int(size) for size in file["image_shape"])
            self.classes = tuple(str(name) for name in file["classes"])
            self.layers: list[Layer] = [
                tuple(file[f"layers.{number}.{name}"].astype(np.int64) for name in names)
                for number in range(int(file["num_layers"]))
            ]

    def outputs(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Distance to each class, int64 (B, K), of images uint8 (B, C, H, W)."""
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"expected uint8 images (B, {self.image_shape}), not {images.dtype} {images.shape}"
            )
        x = images.reshape(len(images), -1).astype(np.int64) << self.fraction_bits
        for values, columns, starts, floor, offset in self.layers:
            y = np.tile(floor, (len(x), 1))
            has_edges = starts[1:] > starts[:-1]
            if has_edges.any():
                differences = np.abs(x[:, columns] - values)
                largest = np.maximum.reduceat(differences, starts[:-1][has_edges], axis=1)
                y[:, has_edges] = np.maximum(y[:, has_edges], largest)
            x = y - offset
        return x

    def certify(self, images: NDArray[np.uint8]) -> tuple[list[str], list[Fraction]]:
        """Class of each image, and the radius: proved for every change below it of every pixel."""
        outputs = self.outputs(images)
        nearest_two = np.sort(outputs, axis=1)[:, :2]
        leads = (nearest_two[:, 1] - nearest_two[:, 0]).tolist()
        units = 510 << self.fraction_bits
        names = [self.classes[number] for number in outputs.argmin(1)]
        return names, [Fraction(lead, units) for lead in leads]


if __name__ == "__main__":
    for name, radius in zip(*NumpyNetwork(sys.argv[1]).certify(np.load(sys.argv[2])), strict=True):
        print(f"{name}: proved for every change below {radius} ({float(radius):.4f})")
