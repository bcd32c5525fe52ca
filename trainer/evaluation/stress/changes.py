"""Changes that images from elsewhere have: each with its levels, the mildest first on either side.

What a change does to an image follows from (seed, record id, change, level) alone, so every model sees the
same images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageFilter

Image = npt.NDArray[np.uint8]  # [H, W, C]
Change = Callable[[Image, float, np.random.Generator], Image]

_MID_GREY: Final = 127.5
_REFERENCE: Final = 180  # pixels of a side at which blur is told; it grows with the image


@dataclass(frozen=True)
class Stress:
    """One kind of change.

    Attributes:
        name: as tables have it.
        title: what it is, with the unit of its levels.
        levels: from one end to the other; `unchanged` is among them.
        unchanged: the level at which nothing changes.
        change: (image, level, generator) to an image of the same shape.
        moderate: the levels that the interval for images from elsewhere allows for, one or one a side.
    """

    name: str
    title: str
    levels: tuple[float, ...]
    unchanged: float
    change: Change
    moderate: tuple[float, ...] = ()

    def __call__(self, image: Image, level: float, *, record_id: str, seed: int = 0) -> Image:
        """Returns the changed image, uint8 [H, W, C]; at `unchanged` the image itself."""
        if level == self.unchanged:
            return image
        key = f"{seed}/{self.name}/{level:g}/{record_id}".encode()
        draws = np.random.default_rng(int.from_bytes(blake2b(key, digest_size=8).digest(), "little"))
        return self.change(image, level, draws)


def _toned(image: Image, tones: npt.NDArray[np.floating[Any]]) -> Image:
    """Looks each level up among 256 new ones."""
    return np.clip(np.rint(tones), 0, 255).astype(np.uint8)[image]


def _exposure(image: Image, level: float, _: np.random.Generator) -> Image:
    return _toned(image, np.arange(256) * 2.0**level)


def _gamma(image: Image, level: float, _: np.random.Generator) -> Image:
    return _toned(image, 255 * (np.arange(256) / 255) ** level)


def _contrast(image: Image, level: float, _: np.random.Generator) -> Image:
    return _toned(image, (np.arange(256) - _MID_GREY) * level + _MID_GREY)


def _blur(image: Image, level: float, _: np.random.Generator) -> Image:
    radius = level * max(image.shape[:2]) / _REFERENCE
    return _array(_picture(image).filter(ImageFilter.GaussianBlur(radius)), image)


def _noise(image: Image, level: float, draws: np.random.Generator) -> Image:
    noise = draws.normal(0, level, image.shape).astype(np.float32)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _jpeg(image: Image, level: float, _: np.random.Generator) -> Image:
    file = BytesIO()
    _picture(image).save(file, "JPEG", quality=int(level))
    with PillowImage.open(file) as read:
        return _array(read, image)


def _rescaled(image: Image, level: float, _: np.random.Generator) -> Image:
    height, width = (max(1, round(size * level)) for size in image.shape[:2])
    small = _picture(image).resize((width, height), PillowImage.Resampling.BOX)
    return _array(small.resize(image.shape[1::-1], PillowImage.Resampling.BILINEAR), image)


def _rotation(image: Image, level: float, draws: np.random.Generator) -> Image:
    """Turns to a drawn side; what lies outside is the image, mirrored."""
    degrees = level * draws.choice([-1, 1])
    pad = [(size, size) for size in image.shape[:2]]
    wide = np.pad(image, [*pad, (0, 0)], mode="symmetric")
    turned = _array(_picture(wide).rotate(degrees, PillowImage.Resampling.BILINEAR), wide)
    height, width = image.shape[:2]
    return turned[height : 2 * height, width : 2 * width]


def _picture(image: Image) -> PillowImage.Image:
    return PillowImage.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _array(picture: PillowImage.Image, like: Image) -> Image:
    return np.asarray(picture).reshape(like.shape)


STRESSES: Final = (
    Stress(
        "exposure",
        "exposure, in stops",
        (-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0),
        0.0,
        _exposure,
        (-0.5, 0.5),
    ),
    Stress("gamma", "gamma of the tone curve", (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0), 1.0, _gamma, (0.7, 1.5)),
    Stress("contrast", "contrast, as a factor", (0.4, 0.6, 0.8, 1.0, 1.25, 1.6), 1.0, _contrast, (0.6, 1.6)),
    Stress("blur", "blur, sigma in pixels of a 180-pixel image", (0.0, 0.5, 1.0, 2.0), 0.0, _blur, (1.0,)),
    Stress("noise", "noise, standard deviation in grey levels", (0.0, 4.0, 8.0, 16.0), 0.0, _noise, (8.0,)),
    Stress("jpeg", "JPEG quality", (10.0, 30.0, 60.0, 90.0, 100.0), 100.0, _jpeg, (30.0,)),
    Stress(
        "rescaling",
        "made smaller and enlarged again, by a factor",
        (0.25, 0.5, 0.75, 1.0),
        1.0,
        _rescaled,
        (0.5,),
    ),
    Stress("rotation", "rotation, degrees to either side", (0.0, 5.0, 10.0, 20.0), 0.0, _rotation, (10.0,)),
)
