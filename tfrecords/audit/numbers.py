"""Numbers of a whole image that carry no anatomy: exposure, black and white level, sharpness, noise, borders.

A classifier that can be replaced by these numbers has learned how the images were made, not what they show.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
_NEAR_BLACK, _NEAR_WHITE = 2, 253  # grey levels: what JPEG makes of 0 and 255
_BANDS: Final = 4  # each twice as coarse as the one before
_STRIP: Final = 0.04  # share of a side
_CORNER: Final = 1 / 16  # share of a side
_GRID: Final = 4
_LEAST: Final = 1e-3  # grey levels: below it, deviations count as none
_MAD_OF_NORMAL: Final = 0.6745  # median of the absolute value of a standard normal


@dataclass(frozen=True)
class Number:
    """One number.

    Attributes:
        name: as a column has it.
        title: in words.
        family: what it is about; numbers of a family are told together.
    """

    name: str
    title: str
    family: str


def numbers_of(channels: int) -> tuple[Number, ...]:
    """Returns what `measure` returns of images with 1 or 3 channels, in its order."""
    sides = ("top", "bottom", "left", "right")
    corners = ("top left", "top right", "bottom left", "bottom right")
    listed = [
        Number("mean", "mean grey level", "exposure"),
        Number("deviation", "standard deviation of the grey levels", "exposure"),
        *(
            Number(f"percentile_{p}", f"{p}{_ordinal(p)} percentile of the grey levels", "exposure")
            for p in _PERCENTILES
        ),
        Number("darkest", "darkest grey level", "black and white level"),
        Number("brightest", "brightest grey level", "black and white level"),
        Number("black", f"share of pixels of level {_NEAR_BLACK} or less", "black and white level"),
        Number("white", f"share of pixels of level {_NEAR_WHITE} or more", "black and white level"),
        *(
            Number(f"sharpness_{2**band}", f"detail of {2**band} to {2 ** (band + 1)} pixels", "sharpness")
            for band in range(_BANDS)
        ),
        Number("noise", "noise of single pixels, grey levels", "noise"),
        *(Number(f"border_{side}", f"mean of the {side} border", "borders") for side in sides),
        *(
            Number(f"border_{side}_deviation", f"standard deviation of the {side} border", "borders")
            for side in sides
        ),
        *(Number(f"corner_{c.replace(' ', '_')}", f"mean of the {c} corner", "corners") for c in corners),
        *(
            Number(
                f"grid_{row + 1}_{column + 1}",
                f"mean of cell {row + 1}, {column + 1} (row, column) of a {_GRID}x{_GRID} grid",
                "coarse brightness",
            )
            for row in range(_GRID)
            for column in range(_GRID)
        ),
    ]
    if channels == 3:
        listed += [
            *(Number(f"mean_{name}", f"mean of {name}", "colour") for name in ("red", "green", "blue")),
            Number("saturation", "mean distance between the largest and the smallest channel", "colour"),
        ]
    return tuple(listed)


def measure(image: npt.NDArray[np.uint8]) -> Floats:
    """Returns the numbers of one image.

    Args:
        image: uint8 [H, W, C] with 1 or 3 channels; of 3 the mean of the channels is the grey level.

    Returns:
        float64 [F], in the order of `numbers_of(C)`; shares from 0 to 1, levels from 0 to 255, sharpness as
        the logarithm of a band's share of the variance.
    """
    colour = image.astype(np.float32) if image.shape[2] == 3 else None
    grey = colour.mean(axis=2) if colour is not None else image[..., 0].astype(np.float32)
    levels = np.rint(grey).astype(np.uint8) if colour is not None else image[..., 0]
    counts = np.bincount(levels.ravel(), minlength=256)
    shares = np.cumsum(counts) / levels.size
    used = np.flatnonzero(counts)
    deviation = float(grey.std())
    values = [
        float(grey.mean()),
        deviation,
        *(float(np.searchsorted(shares, p / 100)) for p in _PERCENTILES),
        float(used[0]),
        float(used[-1]),
        float(shares[_NEAR_BLACK]),
        float(1 - shares[_NEAR_WHITE - 1]),
        *_bands(grey, deviation),
        _noise(grey),
        *_borders(grey),
        *_corners(grey),
        *_cells(grey),
    ]
    if colour is not None:
        saturation = float((colour.max(axis=2) - colour.min(axis=2)).mean())
        values += [*colour.mean(axis=(0, 1)).tolist(), saturation]
    return np.array(values, np.float64)


def _bands(grey: npt.NDArray[np.float32], deviation: float) -> list[float]:
    """Returns for each band of detail the logarithm of its share of the variance.

    A band is what is lost when the image is halved: the image less its means of 2x2 pixels.
    """
    found, coarse = [], grey
    for _ in range(_BANDS):
        height, width = (size - size % 2 for size in coarse.shape)
        if min(height, width) < 2:
            found.append(np.log(_LEAST))
            continue
        blocks = coarse[:height, :width].reshape(height // 2, 2, width // 2, 2)
        means = blocks.mean(axis=(1, 3))
        detail = float(np.sqrt(np.square(blocks - means[:, None, :, None]).mean()))
        found.append(float(2 * np.log((detail + _LEAST) / (deviation + _LEAST))))
        coarse = means
    return found


def _noise(grey: npt.NDArray[np.float32]) -> float:
    """Returns the standard deviation of the noise, from the median of the finest diagonal differences.

    Source: Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage", Biometrika 81 (1994).
    """
    height, width = (size - size % 2 for size in grey.shape)
    if min(height, width) < 2:
        return 0.0
    even, odd = grey[0:height:2], grey[1:height:2]
    diagonal = (even[:, 0:width:2] - even[:, 1:width:2] - odd[:, 0:width:2] + odd[:, 1:width:2]) / 2
    return float(np.median(np.abs(diagonal))) / _MAD_OF_NORMAL


def _borders(grey: npt.NDArray[np.float32]) -> list[float]:
    height, width = (max(1, round(size * _STRIP)) for size in grey.shape)
    strips = (grey[:height], grey[-height:], grey[:, :width], grey[:, -width:])
    return [*(float(strip.mean()) for strip in strips), *(float(strip.std()) for strip in strips)]


def _corners(grey: npt.NDArray[np.float32]) -> list[float]:
    height, width = (max(1, round(size * _CORNER)) for size in grey.shape)
    return [
        float(rows[:, columns].mean())
        for rows in (grey[:height], grey[-height:])
        for columns in (slice(None, width), slice(-width, None))
    ]


def _cells(grey: npt.NDArray[np.float32]) -> list[float]:
    """Returns the mean of each cell of the grid; a cell has a pixel at least."""
    rows, columns = (
        [slice(k * size // _GRID, max(-(-(k + 1) * size // _GRID), 1)) for k in range(_GRID)]
        for size in grey.shape
    )
    return [float(grey[row, column].mean()) for row in rows for column in columns]


def _ordinal(number: int) -> str:
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number not in (11, 12, 13) else "th"
