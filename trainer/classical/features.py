"""Features: each image as a short row of grey values, averaged down to a given number of pixels a side."""

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]


def feature_shape(image_shape: tuple[int, int, int], pixels: int) -> tuple[int, int]:
    """Returns (rows, columns) of an image whose longer side is reduced to `pixels`; smaller images stay."""
    height, width, _ = image_shape
    scale = min(1.0, pixels / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def area_means(images: npt.NDArray[np.uint8], pixels: int) -> Features:
    """Returns the mean brightness of each cell of a grid over each image.

    A pixel that lies in two cells counts in each by the part that lies there. Channels are averaged. The
    features of an image do not depend on the other images of the batch.

    Args:
        images: uint8 [N, H, W, C].
        pixels: rows and columns of the grid at most, see `feature_shape`.

    Returns:
        float32 [N, rows * columns], from 0 to 1.
    """
    _, height, width, _ = images.shape
    rows, columns = feature_shape((height, width, 1), pixels)
    grey = images.mean(axis=3, dtype=np.float32) / np.float32(255)
    means = _shares(height, rows) @ grey @ _shares(width, columns).T
    return np.ascontiguousarray(means.reshape(len(images), rows * columns))


def _shares(size: int, parts: int) -> npt.NDArray[np.float32]:
    """Returns the weight of each of `size` pixels in the mean of each part; float32 [parts, size]."""
    edges = np.arange(parts + 1) * size / parts
    start = np.arange(size)
    overlap = np.minimum(start + 1, edges[1:, None]) - np.maximum(start, edges[:-1, None])
    return (np.clip(overlap, 0, None) * parts / size).astype(np.float32)
